//! What is counted of a described network, against the network that is built from the description.

use std::path::Path;

use super::*;
use crate::config::{self, Models, Options, StepKind};
use crate::workers::evaluate::built_parameters as built;

/// The network of a `model_desc`.
fn described(desc: &str) -> Network {
    let text = format!(
        "pipeline: [full]\nfull:\n  pipe_step: {{type: TrainPipeStep}}\n  model: {{model_desc: {desc}}}\n  dataset: {{type: {}}}\n",
        if desc.contains("SemanticFPN") {
            "MaskDataset, common: {data_root: nowhere, classes: [a, b, c]}"
        } else {
            "CocoDataset, common: {data_root: nowhere}"
        }
    );
    let options = Options { without_data: true, ..Options::default() };
    let checked = config::parse(Path::new("a.yml"), text, &options).unwrap_or_else(|errors| panic!("{errors}"));
    match &checked.steps[0].kind {
        StepKind::Train(step) => match &step.models {
            Models::Described(model) => model.desc.clone(),
            Models::Found(_) => panic!("a described network"),
        },
        StepKind::Search(_) | StepKind::Program(_) => panic!("a train step"),
    }
}

#[test]
fn a_built_network_has_exactly_the_parameters_that_are_counted() {
    let backbones = [
        "{type: SerialBackbone, block: BasicBlock, code: 11-2-2-2, base_width: 8}",
        "{type: SerialBackbone, block: BottleneckBlock, code: 1-21-2-2-1, grammar: paper, base_width: 4, stem: 3x3}",
        "{type: SerialBackbone, block: BasicBlock, code: 1-2-2-2, base_width: 8, frozen_bn: true}",
        "{type: ParallelBackbone, block: BasicBlock, code: 1-2-2-2, base_width: 8, sub_networks: [1, 0, 2, 0]}",
        "{type: ParallelBackbone, block: BasicBlock, code: 1-2-2-2, base_width: 8, sub_networks: [1, 0, 2, 0], \
         share_weights: true, frozen_bn: true}",
    ];
    for backbone in backbones {
        let neck = "neck: {type: FPN, channels: 12}";
        let detector = described(&format!(
            "{{type: FasterRCNN, num_classes: 4, backbone: {backbone}, {neck}, anchor_ratios: [0.5, 2.0], \
             representation_size: 24}}"
        ));
        let segmenter = described(&format!(
            "{{type: SemanticFPN, num_classes: 4, backbone: {backbone}, {neck}, head_channels: 10}}"
        ));
        for network in [&detector, &segmenter] {
            let arch = architecture(network).unwrap();
            let expected = match &network.head {
                Head::FasterRcnn(head) => built(&detection(network, head).unwrap(), &arch),
                Head::SemanticFpn(head) => built(&segmentation(network, *head), &arch),
            };
            assert_eq!(shape(network).params(&arch).unwrap().0, expected, "{backbone}");
        }
    }
}
