//! `spnas profile` through the binary: exact numbers, both grammars, and exit codes.
#![expect(clippy::unwrap_used, reason = "a test")]

use assert_cmd::Command;
use serde_json::Value;

fn spnas(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("spnas").unwrap().arg("profile").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn profile(arguments: &[&str]) -> Value {
    let (code, out, err) = spnas(arguments);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn json_has_torchvisions_numbers_for_resnet_50_and_its_detector() {
    let report = profile(&["111-2111-211111-211", "--grammar", "vega", "--input", "224x224", "--json"]);
    let expected = [
        ("/params", 23_508_032_u64),
        ("/multiply_adds", 4_087_136_256),
        ("/params_with_fc", 25_557_032),
        ("/multiply_adds_with_fc", 4_089_184_256),
        ("/depth", 16),
        ("/stages/0/blocks", 3),
        ("/stages/3/channels", 2048),
        ("/stages/3/height", 7),
        ("/stages/3/width", 7),
        ("/stages/3/stride", 32),
        ("/detector/params/total", 41_808_406),
    ];
    for (pointer, number) in expected {
        assert_eq!(report.pointer(pointer).and_then(Value::as_u64), Some(number), "{pointer}");
    }
}

#[test]
fn the_grammar_decides_what_a_code_costs() {
    let code = "1111-21111-2111111111111111111111111-211-1";
    for (grammar, params, multiply_adds) in
        [("paper", 53_745_984_u64, 8_845_836_288_u64), ("vega", 69_222_720, 9_854_566_400)]
    {
        let report = profile(&[code, "--grammar", grammar, "--block", "bottleneck", "--json"]);
        assert_eq!((report["params"].as_u64(), report["multiply_adds"].as_u64()), (Some(params), Some(multiply_adds)));
    }
    let (exit, _, err) = spnas(&[code]);
    assert_eq!(exit, 2);
    assert!(err.contains("--grammar vega or --grammar paper"), "{err}");
}

#[test]
fn blocks_stems_and_one_line_encodings_are_read() {
    let seed = "111-2111-211111-211";
    let resnext = profile(&[seed, "--block", "resnext32x4d", "--json"]);
    assert_eq!(resnext["params_with_fc"].as_u64(), Some(25_028_904));
    assert_eq!(profile(&[seed, "--block", "resnext:32x4", "--json"]), resnext);
    assert_eq!(profile(&["x(32x4d)_111-2111-211111-211", "--json"]), resnext);
    let small_stem = profile(&[seed, "--grammar", "paper", "--stem", "3x3", "--json"]);
    assert_eq!(small_stem["multiply_adds"].as_u64(), Some(4_037_763_072));
    // A code may begin with a dash.
    let leading = profile(&["-1-1", "--grammar", "vega", "--block", "basic", "--json"]);
    assert_eq!(leading["codes"]["paper"], "22");
}

#[test]
fn extra_sub_networks_cost_multiply_adds_and_without_sharing_parameters() {
    let seed = "111-2111-211111-211";
    let shared = profile(&[seed, "--parallel", "1-1-1-1", "--share-weights", "--json"]);
    let own = profile(&[seed, "--parallel", "1-1-1-1", "--json"]);
    for (report, params) in [(&shared, 26_280_640_u64), (&own, 49_779_136)] {
        assert_eq!(report["params"].as_u64(), Some(params));
        assert_eq!(report["multiply_adds"].as_u64(), Some(8_415_920_128));
    }
    assert_eq!(profile(&["r_111-2111-211111-211_1-1-1-1", "--json"]), own);
    assert_eq!(own["parallel"]["extra"], serde_json::json!([1, 1, 1, 1]));
    // One group of all stages: its connector goes from 2048 channels at 7x7 to 64.
    let whole = profile(&[seed, "--parallel", "1", "--groups", "4", "--json"]);
    assert_eq!(whole["multiply_adds"].as_u64(), Some(2 * 4_087_136_256 - 118_013_952 + 2048 * 64 * 49));
    let (code, out, _) = spnas(&[seed, "--parallel", "0-2-0-1"]);
    assert!(code == 0 && out.contains("sub-networks included"), "{out}");
}

#[test]
fn the_table_is_for_people() {
    let (code, out, _) = spnas(&["111-2111-211111-211", "--classes", "10"]);
    assert_eq!(code, 0);
    for part in ["23 508 032", "with 10 classes", "41 808 406", "56x56"] {
        assert!(out.contains(part), "{part} is missing from\n{out}");
    }
}

#[test]
fn bad_input_ends_with_exit_code_2_and_says_what_is_wrong() {
    let doublings = "-1".repeat(34);
    let table: [(&[&str], &str); 12] = [
        (&["111-3", "--grammar", "vega"], "`3` at character 5"),
        (&["", "--grammar", "paper"], "ends at character 1"),
        (&["11", "--block", "vgg"], "bottleneck"),
        (&["11", "--input", "0x224"], "HEIGHTxWIDTH"),
        (&["11", "--base-width", "0"], "base width is 0"),
        (&["b_11-2", "--block", "bottleneck"], "leave one out"),
        (&["r_11-2_0-1", "--parallel", "0-1"], "leave out --parallel"),
        (&["11-2", "--parallel", "0-1", "--groups", "2"], "1 groups have 2 numbers"),
        (&["11-2", "--parallel", "0-1-0"], "covers 3 stages"),
        (&["11-2", "--parallel", "0-x"], "`x` at character 3"),
        (&["11-2", "--share-weights"], "add --parallel"),
        (&[&doublings, "--grammar", "vega"], "planes"),
    ];
    for (arguments, part) in table {
        let (code, out, err) = spnas(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}
