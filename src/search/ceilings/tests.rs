//! Limits that are counted, judged from both sides.

use super::*;
use crate::arch::cost::{Around, DetectorShape};
use crate::arch::grammar::Grammar;
use crate::arch::serial::{BlockKind, SerialBackbone, Stem};

/// ResNet-50, without its classifier.
fn resnet_50() -> Architecture {
    let sequence = Grammar::Vega.parse("111-2111-211111-211").unwrap();
    SerialBackbone { sequence, block: BlockKind::Bottleneck, stem: Stem::SevenBySeven, base_width: 64 }.into()
}

/// Ceilings for torchvision's detector with a quota.
fn under(quota: &str) -> Ceilings {
    let shape = NetworkShape { around: Around::Detector(DetectorShape::default()), frozen_norms: false };
    let quota = Quota::parse(quota).unwrap();
    Ceilings { quota, shape, ..Ceilings::none(InputSize::new(224, 224).unwrap()) }
}

#[test]
fn flops_and_memory_are_the_backbones_and_params_the_whole_networks() {
    let check = |quota: &str| under(quota).check(&resnet_50()).map(drop).map_err(|error| error.to_string());
    // torchvision 0.28: 4,087,136,256 multiply-adds; the detector has 41,808,406 parameters with batch norms that learn.
    assert_eq!(check("flops in [4.087136256, 4.087136256] and params < 41808.407 and params > 41808.405"), Ok(()));
    assert_eq!(check("flops < 4").unwrap_err(), "flops is 4.087136256, the quota allows < 4");
    assert_eq!(check("params <= 41808").unwrap_err(), "params is 41808.406, the quota allows <= 41808");
    assert!(check("memory < 40").unwrap_err().starts_with("memory is "), "{:?}", check("memory < 40"));
    assert_eq!(check("memory in [42, 43]"), Ok(()), "11,113,984 outputs of convolutions in four bytes each");
}

#[test]
fn batch_norms_that_are_frozen_are_no_parameters() {
    // torchvision's fasterrcnn_resnet50_fpn says 41,755,286 of itself.
    let mut ceilings = under("params in [41755.286, 41755.286]");
    assert!(ceilings.check(&resnet_50()).is_err());
    ceilings.shape.frozen_norms = true;
    assert!(ceilings.check(&resnet_50()).is_ok());
}

#[test]
fn what_takes_a_device_to_tell_is_not_judged_here() {
    assert!(under("latency < 0.000001 and peak_memory > 1e9").check(&resnet_50()).is_ok());
}

#[test]
fn only_a_broken_lower_limit_is_mended_by_more_of_everything() {
    for (quota, expected) in [("flops > 5", true), ("flops < 4", false), ("flops == 5", true), ("flops == 4", false)] {
        assert_eq!(under(quota).check(&resnet_50()).unwrap_err().is_too_little(), expected, "{quota}");
    }
    let ceiling = Ceilings { params: Some(Params(1)), ..under("model_valid") };
    assert!(!ceiling.check(&resnet_50()).unwrap_err().is_too_little());
}
