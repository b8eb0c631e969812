//! Parallel backbones: worked out by hand, and counted by hooks on nets of torchvision's blocks.

use super::*;
use crate::arch::parallel::Parallel;

fn with_parallel(line: &str, stem: Stem, share_weights: bool) -> BackboneCost {
    let line = line.parse().unwrap();
    let net = Architecture::of_line(line, stem, 64, share_weights).unwrap();
    architecture(&net, InputSize::new(224, 224).unwrap()).unwrap()
}

#[test]
fn an_extra_sub_network_a_stage_costs_what_was_worked_out_for_resnet_50() {
    let line = "r_111-2111-211111-211_1-1-1-1";
    for (share_weights, params) in [(true, 26_280_640), (false, 49_779_136)] {
        let cost = with_parallel(line, Stem::SevenBySeven, share_weights);
        assert_eq!((cost.params, cost.multiply_adds), (Params(params), MultiplyAdds(8_415_920_128)));
    }
}

/// The network published for EuroCityPersons (Vega's model zoo, v0.9.3), with the stem that reignition gives it.
#[test]
fn the_pedestrian_network_costs_what_hooks_counted() {
    let line = "r_11121111-21111-112-1111-1111_0-0-2-0-3";
    for (share_weights, params) in [(true, 67_435_808), (false, 162_727_200)] {
        let cost = with_parallel(line, Stem::TwoThreeByThree, share_weights);
        assert_eq!((cost.params, cost.multiply_adds), (Params(params), MultiplyAdds(20_134_715_392)));
    }
}

#[test]
fn groups_repeat_their_stages_together_and_connect_end_to_start() {
    let serial = net(Grammar::Vega, "1-2-2", BlockKind::Basic, Stem::SevenBySeven);
    let image = InputSize::new(64, 64).unwrap();
    let plain = backbone(&serial, image).unwrap();
    let parallel = Parallel::new(&[1, 2], &[0, 2], false).unwrap();
    let net = Architecture { parallel: Some(parallel), ..serial.clone().into() };
    let cost = architecture(&net, image).unwrap();
    // The connector: 256 channels to 64 at 4×4.
    let [_, second, third] = plain.stages[..] else { panic!("three stages") };
    let expected = plain.multiply_adds.0 + 2 * (second.multiply_adds.0 + third.multiply_adds.0 + 256 * 64 * 16);
    assert_eq!(cost.multiply_adds.0, expected);
    let copies = 2 * (second.params.0 + third.params.0);
    assert_eq!(cost.params.0, plain.params.0 + copies + 2 * (256 * 64 + 2 * 64));
    // Two convolutions and a projection a block, and the connector's output.
    let maps = 3 * 128 * 64 + 3 * 256 * 16 + 64 * 16;
    assert_eq!(cost.activation_bytes.0, plain.activation_bytes.0 + 2 * 4 * maps);
    let of_one = sub_networks(&serial, &[1, 2], image).unwrap()[1];
    assert_eq!(plain.multiply_adds.0 + 2 * of_one.multiply_adds.0, cost.multiply_adds.0);
    assert_eq!(plain.params.0 + 2 * (of_one.params.0 + of_one.connector_params.0), cost.params.0);
    assert!(matches!(sub_networks(&serial, &[1, 1], image), Err(CostError::Architecture(_))));
}

/// A net as `tests/reference/parallel_golden.py` built and counted it.
#[derive(Deserialize)]
struct ParallelReference {
    grammar: Grammar,
    code: String,
    block: String,
    stem: String,
    groups: Vec<u32>,
    extra: Vec<u32>,
    share_weights: bool,
    height: u32,
    width: u32,
    params: Params,
    multiply_adds: MultiplyAdds,
    activation_bytes: Bytes,
}

#[test]
fn parallel_nets_built_from_torchvisions_blocks_cost_exactly_as_counted() {
    let table = include_str!("../../../../tests/reference/parallel_cost.json");
    let references: Vec<ParallelReference> = serde_json::from_str(table).unwrap();
    assert!(references.len() > 20);
    for reference in references {
        let name = format!("{}:{} {:?} {:?}", reference.grammar, reference.code, reference.groups, reference.extra);
        let stem = reference.stem.parse().unwrap();
        let serial = net(reference.grammar, &reference.code, reference.block.parse().unwrap(), stem);
        let parallel = Parallel::new(&reference.groups, &reference.extra, reference.share_weights).unwrap();
        let net = Architecture { parallel: Some(parallel), ..serial.into() };
        let cost = architecture(&net, InputSize::new(reference.height, reference.width).unwrap()).unwrap();
        let counted = (cost.params, cost.multiply_adds, cost.activation_bytes);
        assert_eq!(counted, (reference.params, reference.multiply_adds, reference.activation_bytes), "{name}");
    }
}
