//! SP-NAS: serial-to-parallel backbone search for detection and segmentation, on the engine of `spnas-actors`.
//!
//! ```text
//!  config ──► pipeline ──► search (samplers: serial, parallel)  ──► spnas-actors ──► workers (tasks: detection, …)
//!               │             └ arch: sequence, grammar, cost                         ├ nn: backbones, FPN, detector, segmenter, classifier
//!               │                                                                     ├ train: optimiser, schedule, loop
//!               ▼                                                                     ├ weights: files, torchvision's names, inheritance
//!             output files, report                                                    ├ data: boxes, masks, classes, loader
//!                                                                                     └ metrics: COCO mAP, mean IoU, top-k
//! ```
//!
//! Reading order: `arch` (what is searched), `search` (how), `nn` (what it becomes), `weights` (what a child takes from
//! its parent), `data`, `metrics`, `train`, `workers` (the engine's trials), `config`, `pipeline`, `live`, `report`, `service`, `cli`.

pub mod arch;
pub mod cli;
pub mod config;
pub mod data;
pub mod gpus;
pub mod live;
pub mod metrics;
pub mod nn;
pub mod pipeline;
mod printable;
pub mod report;
pub mod search;
pub mod service;
pub mod train;
pub mod weights;
pub mod workers;
