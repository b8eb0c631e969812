//! Tests of the reader on files that torch itself wrote (`tests/reference/make_pth_golden.py`) and on pickles written
//! by hand.

use tch::{Device, Kind, Tensor};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/pth")
}

fn golden(name: &str) -> Tensors {
    read(&folder().join(name)).unwrap()
}

fn complaint(name: &str) -> String {
    let path = folder().join(name);
    let text = read(&path).unwrap_err().to_string();
    text.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
}

/// A legacy file around an object's pickle and what follows it.
fn legacy(object: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    bytes.extend(b"\x80\x02M\xe9\x03.");
    bytes.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    bytes.extend(object);
    bytes.extend(rest);
    bytes
}

/// Where the object's pickle starts in [`legacy`].
const OBJECT_AT: u64 = 15 + 6 + 24;

/// `{"a": _rebuild_tensor_v2(storage of 2 floats, offset, size, stride)}` with the three given as pickled values.
fn one_tensor(offset: &[u8], size: &[u8], stride: &[u8]) -> Vec<u8> {
    let mut object = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    object.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpuK\x02tQ");
    object.extend([offset, size, stride].concat());
    object.extend(b"\x89}tRs.");
    let mut rest = b"\x80\x02]X\x01\x00\x00\x00ka.".to_vec();
    rest.extend(2u64.to_le_bytes());
    rest.extend([1.5f32, -2.0].iter().flat_map(|value| value.to_le_bytes()));
    legacy(&object, &rest)
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

#[test]
fn every_kind_and_view_comes_out_of_both_formats_and_of_later_protocols() {
    for name in
        ["tensors.pth", "tensors_legacy.pth", "tensors_protocol4.pth", "tensors_legacy_protocol4.pth", "repacked.pth"]
    {
        let tensors = golden(name);
        assert_eq!(tensors.len(), 18, "{name}");
        let kinds = [
            ("f64", Kind::Double),
            ("f32", Kind::Float),
            ("f16", Kind::Half),
            ("bf16", Kind::BFloat16),
            ("i64", Kind::Int64),
            ("i32", Kind::Int),
            ("i16", Kind::Int16),
            ("i8", Kind::Int8),
            ("u8", Kind::Uint8),
        ];
        for (short, kind) in kinds {
            let tensor = &tensors[&format!("kind.{short}")];
            assert_eq!((tensor.kind(), floats(tensor)), (kind, vec![1.0, 2.0, 100.0]), "{name} {short}");
        }
        let bools = &tensors["kind.bool"];
        assert_eq!((bools.kind(), floats(bools)), (Kind::Bool, vec![1.0, 0.0, 1.0]), "{name}");
        let whole = Tensor::arange(24, (Kind::Float, Device::Cpu));
        assert_eq!(tensors["shape.scalar"], Tensor::from(2.5f32));
        assert_eq!(tensors["shape.empty"].size(), [0, 3]);
        assert_eq!(tensors["view.whole"], whole);
        assert_eq!(tensors["view.rows"], whole.view([4, 6]).slice(0, 1, 3, 1));
        assert_eq!(tensors["view.transposed"], whole.view([4, 6]).tr());
        assert_eq!(floats(&tensors["view.strided"]), [5.0, 12.0, 19.0]);
        assert_eq!(tensors["view.expanded"], Tensor::full([2, 2], 3.0, (Kind::Float, Device::Cpu)));
        assert_eq!(tensors["parameter"].size(), [1, 2]);
        assert_eq!(floats(&tensors["parameter"]), [-1.5, 0.25]);
    }
}

#[test]
fn tensors_share_their_storage_as_in_the_file() {
    for name in ["tensors.pth", "tensors_legacy.pth"] {
        let tensors = golden(name);
        let _ = tensors["view.whole"].shallow_clone().fill_(7.0);
        assert_eq!(floats(&tensors["view.strided"]), [7.0; 3], "{name}");
        assert_eq!(floats(&tensors["kind.f32"]), [1.0, 2.0, 100.0], "{name}");
    }
}

#[test]
fn a_checkpoint_gives_its_state_dict_alone() {
    for name in ["checkpoint.pth", "checkpoint_legacy.pth"] {
        let tensors = golden(name);
        let names =
            ["0.bias", "0.weight", "1.bias", "1.num_batches_tracked", "1.running_mean", "1.running_var", "1.weight"];
        assert_eq!(tensors.keys().collect::<Vec<_>>(), names, "{name}");
        assert_eq!(floats(&tensors["0.weight"]), [1.0; 6], "{name}");
        assert_eq!(floats(&tensors["1.running_var"]), [6.0; 3], "{name}");
    }
}

#[test]
fn what_is_no_file_of_weights_is_refused_with_place_and_reason() {
    let cases = [
        ("list.pth", "byte 0: no state dict: the file holds something other than a dictionary"),
        ("big_endian.pth", "a big-endian file; load and save it again on a little-endian machine"),
        ("compressed.pth", "zip archive: a compressed entry; torch.save stores them as they are"),
        ("script.pth", "a TorchScript archive; save the module's state_dict() with torch.save instead"),
        ("module.pth", "torch.nn.modules.container.Sequential is not among the names that a file of weights may use"),
        ("module_legacy.pth", "torch.nn.modules.activation.ReLU is not among the names that a file of weights may use"),
    ];
    for (name, expected) in cases {
        let text = complaint(name);
        assert!(text.starts_with("byte ") && text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn no_name_outside_the_table_is_taken() {
    for name in [&b"cposix\nsystem\n"[..], b"cos\nsystem\n", b"cbuiltins\neval\n", b"c__builtin__\ngetattr\n"] {
        let bytes = legacy(&[b"\x80\x02", name, b"X\x02\x00\x00\x00ls\x85R."].concat(), b"");
        let flaw = from_bytes(&bytes).unwrap_err();
        assert!(matches!(flaw.fault, Fault::Global { .. }), "{flaw}");
        assert_eq!(flaw.at, OBJECT_AT + 2);
    }
    let stacked = legacy(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", b"");
    assert_eq!(
        from_bytes(&stacked).unwrap_err().to_string(),
        format!(
            "byte {}: os.system is not among the names that a file of weights may use (saved as a whole module? save its \
             state_dict() instead)",
            OBJECT_AT + 14
        )
    );
}

#[test]
fn a_view_is_kept_within_its_storage() {
    let fine = from_bytes(&one_tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85")).unwrap();
    assert_eq!(floats(&fine["a"]), [1.5, -2.0]);
    let last = from_bytes(&one_tensor(b"K\x01", b")", b")")).unwrap();
    assert_eq!(floats(&last["a"]), [-2.0]);
    let none = from_bytes(&one_tensor(b"K\x02", b"K\x00K\x05\x86", b"K\x05K\x01\x86")).unwrap();
    assert_eq!(none["a"].size(), [0, 5]);

    let huge = b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f";
    let huge_tuple = [huge, &b"\x85"[..]].concat();
    let huge_pair = [&huge[..], huge, b"\x86"].concat();
    let negative = b"J\xff\xff\xff\xff";
    let negative_tuple = [&negative[..], b"\x85"].concat();
    // Offset, sizes and strides, as opcodes, and what is wrong with them.
    #[expect(clippy::type_complexity, reason = "a table of one test")]
    let cases: [(&[u8], &[u8], &[u8], &str); 10] = [
        (b"K\x01", b"K\x02\x85", b"K\x01\x85", "reaches beyond the storage's 2 elements"),
        (b"K\x00", b"K\x02\x85", b"K\x02\x85", "reaches beyond the storage's 2 elements"),
        (b"K\x02", b")", b")", "reaches beyond the storage's 2 elements"),
        (b"K\x03", b"K\x00\x85", b"K\x01\x85", "reaches beyond the storage's 2 elements"),
        (b"K\x00", b"K\x02\x85", &huge_tuple, "reaches beyond the storage's 2 elements"),
        (huge, b"K\x02\x85", b"K\x01\x85", "reaches beyond the storage's 2 elements"),
        (b"K\x00", &huge_tuple, b"K\x00\x85", "more bytes than the whole file"),
        (b"K\x00", &huge_pair, b"K\x00K\x00\x86", "more bytes than the whole file"),
        (negative, b"K\x01\x85", b"K\x01\x85", "a number is negative"),
        (b"K\x00", b"K\x02\x85", &negative_tuple, "a number is negative"),
    ];
    for (offset, size, stride, expected) in cases {
        let text = from_bytes(&one_tensor(offset, size, stride)).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let unequal = from_bytes(&one_tensor(b"K\x00", b"K\x02\x85", b")")).unwrap_err().to_string();
    assert!(unequal.contains("as many strides as dimensions"), "{unequal}");
}

#[test]
fn storages_that_are_not_as_announced_are_faults() {
    let bytes = one_tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85");
    let count_at = bytes.len() - 16;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        from_bytes(&bytes).unwrap_err().to_string()
    };
    let count = with(&|bytes| bytes[count_at + 7] = 0x7f);
    assert!(count.contains("storage \"k\": holds 9151314442816847874 elements, the tensors say 2"), "{count}");
    let long = with(&|bytes| bytes.push(0));
    assert_eq!(long, format!("byte {}: 1 bytes follow the end of the last storage", bytes.len()));
    let cut = with(&|bytes| bytes.truncate(bytes.len() - 1));
    assert_eq!(cut, format!("byte {}: cut short: a storage's elements needs 8 bytes, 7 are left", bytes.len() - 8));
    let other_key = with(&|bytes| bytes[count_at - 3] = b'j');
    assert!(other_key.contains("storage \"j\": listed, but no tensor says what it holds"), "{other_key}");
    let other_order = with(&|bytes| bytes[15 + 6 + 21] = 0x89);
    assert_eq!(other_order, "byte 21: a big-endian file; load and save it again on a little-endian machine");
    let empty = legacy(b"\x80\x02}.", b"\x80\x02].");
    assert!(from_bytes(&empty).unwrap_err().to_string().contains("no tensor in it"));
}

#[test]
fn a_changed_byte_of_a_storage_in_an_archive_is_found() {
    let mut bytes = std::fs::read(folder().join("small.pth")).unwrap();
    let at = bytes.windows(8).position(|window| window == [0, 0, 128, 63, 0, 0, 0, 64]).unwrap();
    bytes[at + 2] ^= 1;
    let text = from_bytes(&bytes).unwrap_err().to_string();
    assert_eq!(
        text,
        format!("byte {at}: zip archive: the checksum of the entry that starts here is wrong: its bytes were changed")
    );
}

#[test]
fn a_file_that_is_not_there_or_empty_or_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    assert!(matches!(read(&path), Err(PthError::Io { .. })));
    assert!(read(folder.path()).unwrap_err().to_string().ends_with("not a plain file"));
    std::fs::write(&path, b"").unwrap();
    let text = read(&path).unwrap_err().to_string();
    assert!(text.contains("weights.pth: byte 0: not a file of torch.save"), "{text}");
}
