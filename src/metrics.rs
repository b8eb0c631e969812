//! The metrics room: predictions and ground truth in, numbers out. Pure over plain vectors: no tensors, no devices.

mod coco_accumulate;
pub mod coco_map;
pub mod coco_stats;
pub mod mean_iou;
pub mod top_k;
