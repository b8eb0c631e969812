//! SP-NAS: serial-to-parallel backbone search for detection and segmentation, on the engine of `spnas-actors`.
//!
//! ```text
//!  config ──► pipeline ──► search (sampler: swap, expand, add stage)  ──► spnas-actors ──► workers
//!               │             └ arch: sequence, grammar, cost                               ├ nn: backbone, FPN, Faster R-CNN
//!               │                                                                           ├ train: optimiser, schedule, loop
//!               ▼                                                                           ├ weights: safetensors, inheritance
//!             output files, report                                                          ├ data: COCO, VOC, loader
//!                                                                                           └ metrics: COCO mAP
//! ```
//!
//! Reading order: `arch` (what is searched), `search` (how), `nn` (what it becomes), `weights` (what a child takes from
//! its parent), `data`, `metrics`, `train`, `workers` (the engine's trials), `config`, `pipeline`, `live`, `report`, `cli`.

pub mod arch;
pub mod cli;
pub mod config;
pub mod data;
pub mod live;
pub mod metrics;
pub mod nn;
pub mod pipeline;
pub mod report;
pub mod search;
pub mod train;
pub mod weights;
pub mod workers;
