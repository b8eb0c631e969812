//! Every number here was counted by hooks on nets of torchvision 0.28 (torch 2.13) or by an independent counter that
//! equals it exactly on its five networks. `tests/reference/backbone_cost.py` counts many more.

use serde::Deserialize;

use super::*;
use crate::arch::grammar::Grammar;
use crate::arch::serial::BlockKind;

mod parallel;

const SEED: &str = "111-2111-211111-211";
const RESNEXT: BlockKind = BlockKind::ResNeXt { groups: 32, width: 4 };

fn net(grammar: Grammar, code: &str, block: BlockKind, stem: Stem) -> SerialBackbone {
    SerialBackbone { sequence: grammar.parse(code).unwrap(), block, stem, base_width: 64 }
}

fn at_224(net: &SerialBackbone) -> BackboneCost {
    backbone(net, InputSize::new(224, 224).unwrap()).unwrap()
}

/// `code`, read in Vega's grammar, in both spellings: as it stands and as the paper's grammar writes it.
fn in_both_grammars(code: &str) -> [(Grammar, String); 2] {
    let sequence = Grammar::Vega.parse(code).unwrap();
    [(Grammar::Vega, code.to_owned()), (Grammar::Paper, Grammar::Paper.print(&sequence))]
}

#[test]
fn the_classifiers_cost_what_torchvisions_cost() {
    let resnet_101 = format!("111-2111-2{}-211", "1".repeat(22));
    let table = [
        ("11-21-21-21", BlockKind::Basic, 11_689_512, 1_814_073_344),
        (SEED, BlockKind::Basic, 21_797_672, 3_663_761_408),
        (SEED, BlockKind::Bottleneck, 25_557_032, 4_089_184_256),
        (&resnet_101, BlockKind::Bottleneck, 44_549_160, 7_801_405_440),
        (SEED, RESNEXT, 25_028_904, 4_230_479_872),
    ];
    for (code, block, params, multiply_adds) in table {
        for (grammar, spelling) in in_both_grammars(code) {
            let cost = at_224(&net(grammar, &spelling, block, Stem::SevenBySeven)).with_classes(1000).unwrap();
            let expected = ClassifierCost { params: Params(params), multiply_adds: MultiplyAdds(multiply_adds) };
            assert_eq!(cost, expected, "{grammar}:{spelling} {block}");
        }
    }
}

#[test]
fn backbones_cost_the_same_in_either_spelling() {
    let table: [(&str, usize, u64, u64, u64, u64); 9] = [
        (SEED, 16, 23_508_032, 4_087_136_256, 21_284_672, 3_663_249_408),
        ("1112-111-211111-211", 16, 23_364_416, 3_936_206_848, 21_067_456, 3_493_052_416),
        ("11-21111-211111-211", 16, 23_717_696, 4_087_136_256, 21_506_112, 3_663_249_408),
        ("112-1111-21111-1211", 16, 31_117_888, 5_105_106_944, 25_092_032, 4_045_389_824),
        ("111-2111-21111111-211", 18, 25_742_400, 4_523_868_160, 23_646_016, 4_125_671_424),
        ("1111-2111-2111111-211", 18, 24_695_616, 4_523_868_160, 22_539_328, 4_125_671_424),
        ("111-21111-211111-2111", 18, 28_250_688, 4_523_868_160, 26_300_736, 4_125_671_424),
        ("111-2111-211111-211-1", 17, 47_645_760, 5_268_881_408, 35_970_880, 4_382_572_544),
        ("1-2-2-2", 4, 8_015_936, 1_466_744_832, 4_905_792, 888_717_312),
    ];
    for (code, depth, bottleneck_params, bottleneck_adds, basic_params, basic_adds) in table {
        for (grammar, spelling) in in_both_grammars(code) {
            for (block, params, adds) in [
                (BlockKind::Bottleneck, bottleneck_params, bottleneck_adds),
                (BlockKind::Basic, basic_params, basic_adds),
            ] {
                let net = net(grammar, &spelling, block, Stem::SevenBySeven);
                let cost = at_224(&net);
                assert_eq!(net.sequence.depth(), depth, "{code}");
                let counted = (cost.params, cost.multiply_adds);
                assert_eq!(counted, (Params(params), MultiplyAdds(adds)), "{grammar}:{spelling} {block}");
            }
        }
    }
}

#[test]
fn the_best_coco_model_costs_differ_by_grammar() {
    let code = "1111-21111-2111111111111111111111111-211-1";
    let table =
        [(Grammar::Paper, 53_745_984, 8_845_836_288, (2048, 4)), (Grammar::Vega, 69_222_720, 9_854_566_400, (4096, 7))];
    for (grammar, params, multiply_adds, last) in table {
        let cost = at_224(&net(grammar, code, BlockKind::Bottleneck, Stem::SevenBySeven));
        assert_eq!((cost.params, cost.multiply_adds), (Params(params), MultiplyAdds(multiply_adds)), "{grammar}");
        let map = cost.stages.last().unwrap();
        assert_eq!((map.channels, map.height), last, "{grammar}");
    }
}

#[test]
fn the_stem_of_two_3x3_costs_more_parameters_and_fewer_multiply_adds() {
    let cost = at_224(&net(Grammar::Paper, SEED, BlockKind::Bottleneck, Stem::TwoThreeByThree));
    assert_eq!((cost.params, cost.multiply_adds), (Params(23_517_984), MultiplyAdds(4_037_763_072)));
}

#[test]
fn the_seeds_stages_give_resnet_50s_maps() {
    let cost = at_224(&net(Grammar::Vega, SEED, BlockKind::Bottleneck, Stem::SevenBySeven));
    let maps: Vec<_> = cost.stages.iter().map(|map| (map.channels, map.height, map.width, map.stride)).collect();
    assert_eq!(maps, [(256, 56, 56, 4), (512, 28, 28, 8), (1024, 14, 14, 16), (2048, 7, 7, 32)]);
    let blocks: Vec<u64> = cost.stages.iter().map(|stage| stage.blocks).collect();
    assert_eq!(blocks, [3, 4, 6, 3]);
    // The stem: 3·64·49 weights and batch norm's 128.
    let in_stages: u64 = cost.stages.iter().map(|stage| stage.params.0).sum();
    assert_eq!(in_stages + 9408 + 128, cost.params.0);
}

#[test]
fn an_identity_bottleneck_adds_the_same_work_in_any_stage() {
    let seed = at_224(&net(Grammar::Vega, SEED, BlockKind::Bottleneck, Stem::SevenBySeven));
    for (stage, code) in
        ["1111-2111-211111-211", "111-21111-211111-211", "111-2111-2111111-211", "111-2111-211111-2111"]
            .into_iter()
            .enumerate()
    {
        let cost = at_224(&net(Grammar::Vega, code, BlockKind::Bottleneck, Stem::SevenBySeven));
        let planes = 64 << stage;
        assert_eq!(cost.params.0 - seed.params.0, 17 * planes * planes + 12 * planes);
        assert_eq!(cost.multiply_adds.0 - seed.multiply_adds.0, 218_365_952);
    }
}

#[test]
fn activation_bytes_are_the_outputs_of_all_convolutions() {
    // By hand, at 32×32, base width 64: stem 64·16², pooled to 8². One basic block keeps the shape (two outputs
    // 64·8²), the next halves and doubles (two outputs and the projection's, 128·4²).
    let net = net(Grammar::Vega, "1-2", BlockKind::Basic, Stem::SevenBySeven);
    let cost = backbone(&net, InputSize::new(32, 32).unwrap()).unwrap();
    assert_eq!(cost.activation_bytes, Bytes(4 * (64 * 256 + 2 * 64 * 64 + 3 * 128 * 16)));
}

#[test]
fn odd_sizes_are_rounded_up_as_padded_convolutions_do() {
    let net = net(Grammar::Vega, SEED, BlockKind::Basic, Stem::SevenBySeven);
    let cost = backbone(&net, InputSize::new(225, 33).unwrap()).unwrap();
    let maps: Vec<_> = cost.stages.iter().map(|map| (map.height, map.width)).collect();
    assert_eq!(maps, [(57, 9), (29, 5), (15, 3), (8, 2)]);
}

#[test]
fn the_detector_costs_what_torchvisions_costs_part_by_part() {
    let body = net(Grammar::Vega, SEED, BlockKind::Bottleneck, Stem::SevenBySeven);
    let params = detector(&body.into(), &DetectorShape::default()).unwrap();
    let expected = DetectorParams {
        body: Params(23_508_032),
        fpn: Params(3_344_384),
        rpn: Params(593_935),
        heads: Params(14_362_055),
        total: Params(41_808_406),
    };
    assert_eq!(params, expected);
}

#[test]
fn a_net_too_wide_to_count_is_an_error() {
    let wide = net(Grammar::Vega, &"-1".repeat(40), BlockKind::Bottleneck, Stem::SevenBySeven);
    let image = InputSize::new(224, 224).unwrap();
    assert!(matches!(backbone(&wide, image), Err(CostError::Shape(ShapeError::TooWide { .. }))));
    let huge = InputSize::new(u32::MAX, u32::MAX).unwrap();
    let seed = net(Grammar::Vega, SEED, BlockKind::Bottleneck, Stem::SevenBySeven);
    assert_eq!(backbone(&seed, huge), Err(CostError::TooLarge));
}

#[test]
fn input_sizes_read_what_they_write() {
    let size = InputSize::new(128, 160).unwrap();
    assert_eq!(size.to_string().parse(), Ok(size));
    for wrong in ["", "224", "0x224", "224x0", "224x", "-1x2", "2x2x2"] {
        assert!(wrong.parse::<InputSize>().is_err(), "{wrong}");
    }
}

/// A net as `tests/reference/backbone_cost.py` built and counted it.
#[derive(Deserialize)]
struct Reference {
    grammar: Grammar,
    code: String,
    block: String,
    stem: String,
    base_width: u32,
    height: u32,
    width: u32,
    classes: u32,
    params: Params,
    multiply_adds: MultiplyAdds,
    activation_bytes: Bytes,
    params_with_fc: Params,
    multiply_adds_with_fc: MultiplyAdds,
    maps: Vec<(u32, u32, u32)>,
    detector: ReferenceDetector,
}

#[derive(Deserialize)]
struct ReferenceDetector {
    fpn_channels: u32,
    classes: u32,
    head_width: u32,
    body: Params,
    fpn: Params,
    rpn: Params,
    heads: Params,
}

#[test]
fn nets_built_from_torchvisions_blocks_cost_exactly_as_counted() {
    let table = include_str!("../../../tests/reference/backbone_cost.json");
    let references: Vec<Reference> = serde_json::from_str(table).unwrap();
    assert_eq!(references.len(), 70);
    for reference in references {
        let name = format!("{}:{} {}", reference.grammar, reference.code, reference.block);
        let net = SerialBackbone {
            sequence: reference.grammar.parse(&reference.code).unwrap(),
            block: reference.block.parse().unwrap(),
            stem: reference.stem.parse().unwrap(),
            base_width: reference.base_width,
        };
        let cost = backbone(&net, InputSize::new(reference.height, reference.width).unwrap()).unwrap();
        assert_eq!(cost.params, reference.params, "{name}");
        assert_eq!(cost.multiply_adds, reference.multiply_adds, "{name}");
        assert_eq!(cost.activation_bytes, reference.activation_bytes, "{name}");
        let maps: Vec<_> = cost.stages.iter().map(|map| (map.channels, map.height, map.width)).collect();
        assert_eq!(maps, reference.maps, "{name}");
        let classifier = cost.with_classes(reference.classes).unwrap();
        let expected =
            ClassifierCost { params: reference.params_with_fc, multiply_adds: reference.multiply_adds_with_fc };
        assert_eq!(classifier, expected, "{name}");
        let ReferenceDetector { fpn_channels, classes, head_width, body, fpn, rpn, heads } = reference.detector;
        let shape = DetectorShape { fpn_channels, classes, head_width, ..DetectorShape::default() };
        let counted = detector(&net.into(), &shape).unwrap();
        assert_eq!((counted.body, counted.fpn, counted.rpn, counted.heads), (body, fpn, rpn, heads), "{name}");
        assert_eq!(counted.total.0, body.0 + fpn.0 + rpn.0 + heads.0, "{name}");
    }
}
