//! Hostile `.pth` files: random bytes, random pickles, cut, flipped and mixed real files, and the known bombs. None may
//! panic, none may take more memory than its own length justifies. The corpus is `tests/reference/pth`; thousands of cases
//! a law, which counts memory; `tests/fuzz` looks for new paths through the reader.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use proptest::prelude::*;
use spnas::weights::pth::{Fault, from_bytes};

/// Counts what this thread holds, and the most it held. libtorch's own memory is not seen here: it is bounded by the
/// storages, which are slices of the file that do not overlap.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: every call goes on to the system's allocator as it came; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether the bytes were read, and the fault if not; fails where that took too much memory: 64 KiB and 300 bytes for
/// each byte of the file (one-byte operations that make values, in tables that double as they grow).
fn read(bytes: &[u8]) -> Result<usize, Fault> {
    let before = HELD.get();
    MOST.set(before);
    let result = from_bytes(bytes);
    let taken = MOST.get() - before;
    assert!(taken <= 65_536 + 300 * bytes.len() as isize, "{taken} bytes for a file of {}", bytes.len());
    let tensors = result.map_err(|flaw| {
        assert!(flaw.at <= bytes.len() as u64, "{flaw}: beyond the end");
        flaw.fault
    })?;
    for (name, tensor) in &tensors {
        let size = tensor.numel() * tensor.kind().elt_size_in_bytes();
        assert!(size <= bytes.len(), "{name} of {size} bytes");
        // Every element can be touched.
        let _ = tensor.contiguous();
    }
    Ok(tensors.len())
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/pth").join(name)).unwrap()
}

const READABLE: [&str; 9] = [
    "small.pth",
    "small_legacy.pth",
    "tensors.pth",
    "tensors_legacy.pth",
    "tensors_protocol4.pth",
    "tensors_legacy_protocol4.pth",
    "checkpoint.pth",
    "checkpoint_legacy.pth",
    "repacked.pth",
];

/// A legacy file with this object, then this.
fn legacy(object: &[u8], rest: &[u8]) -> Vec<u8> {
    let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
    let machine = b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.";
    [head, &machine[..], object, rest].concat()
}

#[test]
fn a_file_cut_anywhere_is_a_fault() {
    for name in READABLE {
        let bytes = golden(name);
        assert!(read(&bytes).is_ok(), "{name}");
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{name} cut to {length}");
        }
    }
}

#[test]
fn no_flipped_bit_does_harm() {
    for name in ["small.pth", "small_legacy.pth", "tensors_legacy.pth", "checkpoint_legacy.pth", "repacked.pth"] {
        let mut bytes = golden(name);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let _ = read(&bytes);
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn lengths_that_lie_cost_nothing() {
    let objects: [&[u8]; 8] = [
        b"X\xff\xff\xff\xff",
        b"T\xff\xff\xff\xff",
        b"B\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\xff",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x8a\xff",
    ];
    for object in objects {
        assert!(matches!(read(&legacy(object, b"")), Err(Fault::Cut { .. })), "{object:?}");
    }
    // A frame's length is not needed, a memo key is no index.
    assert!(matches!(
        read(&legacy(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff}r\xff\xff\xff\xff.", b"].")),
        Err(Fault::NoStateDict(_))
    ));
}

#[test]
fn deep_and_circular_pickles_end() {
    const DEPTH: usize = 500_000;
    // A list in a list in a list …, the same of tuples, and marks without end.
    let lists = [vec![b']'; DEPTH], vec![b'a'; DEPTH - 1], b".".to_vec()].concat();
    assert!(matches!(read(&legacy(&lists, b"].")), Err(Fault::NoStateDict(_))));
    let tuples = [b")".to_vec(), vec![0x85; DEPTH], b".".to_vec()].concat();
    assert!(matches!(read(&legacy(&tuples, b"].")), Err(Fault::NoStateDict(_))));
    assert!(matches!(read(&legacy(&vec![b'('; DEPTH], b"")), Err(Fault::Cut { .. })));
    // A dictionary that is its own state dict.
    let circle = b"}q\x00X\x0a\x00\x00\x00state_dicth\x00s.";
    assert!(matches!(read(&legacy(circle, b"].")), Err(Fault::NoStateDict(_))));
    // More operations than any file needs.
    assert!(matches!(read(&legacy(&vec![b'N'; 2 << 20], b"")), Err(Fault::TooLong(_))));
}

#[test]
fn what_is_recalled_again_and_again_is_not_copied() {
    // Each list holds the one before twice: 2^10000 items if they were copied.
    let mut doubling = b"]q\x00".to_vec();
    for _ in 0..10_000 {
        doubling.extend(b"](h\x00h\x00eq\x00");
    }
    doubling.push(b'.');
    assert!(matches!(read(&legacy(&doubling, b"].")), Err(Fault::NoStateDict(_))));
    // An ordered dictionary of one long list, made anew each time.
    let mut copies = b"ccollections\nOrderedDict\nq\x00](".to_vec();
    copies.extend(b"NN\x86".repeat(20_000));
    copies.extend(b"e\x85q\x01");
    copies.extend(b"h\x00h\x01R".repeat(10_000));
    let bytes = legacy(&copies, b"");
    assert!(matches!(from_bytes(&bytes).unwrap_err().fault, Fault::TooLong(_)));
}

#[test]
fn archives_whose_entries_share_bytes_are_refused() {
    let bytes = golden("repacked.pth");
    // The directory's second entry is sent to where the first one is.
    let central: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..at + 4] == *b"PK\x01\x02").collect();
    let mut overlapping = bytes.clone();
    overlapping.copy_within(central[0] + 42..central[0] + 46, central[1] + 42);
    let fault = read(&overlapping).unwrap_err();
    assert!(matches!(&fault, Fault::Archive(text) if text == "two entries overlap"), "{fault}");
    // A directory that claims to reach further, entries that claim to be longer.
    for (at, length) in [(bytes.len() - 10, 4), (central[1] + 24, 4), (central[1] + 20, 4)] {
        let mut lying = bytes.clone();
        lying[at..at + length].fill(0xff);
        let _ = read(&lying);
        lying[at..at + length].fill(0x7f);
        assert!(matches!(read(&lying).unwrap_err(), Fault::Archive(_) | Fault::Cut { .. }), "{at}");
    }
}

/// One operation of a pickle, mostly with fitting operands.
fn operation() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(b"N()}]{0123RQtelaudsb.\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94".to_vec());
    let text = prop::sample::select(vec![
        "storage",
        "k",
        "cpu",
        "state_dict",
        "model",
        "torch",
        "FloatStorage",
        "OrderedDict",
    ]);
    let global = prop::sample::select(vec![
        "ctorch._utils\n_rebuild_tensor_v2\n",
        "ctorch._utils\n_rebuild_parameter\n",
        "ctorch\nFloatStorage\n",
        "ctorch\nBoolStorage\n",
        "ctorch\nSize\n",
        "ccollections\nOrderedDict\n",
        "cargparse\nNamespace\n",
        "cos\nsystem\n",
    ]);
    let storage =
        Just(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpuK\x02tQ".to_vec());
    let start = Just(b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec());
    prop_oneof![
        8 => plain.prop_map(|opcode| vec![opcode]),
        2 => any::<u8>().prop_map(|opcode| vec![opcode]),
        3 => text.prop_map(|text| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()),
        3 => global.prop_map(|global| global.as_bytes().to_vec()),
        3 => (0u8..4).prop_map(|number| vec![b'K', number]),
        1 => any::<i64>().prop_map(|number| [b"\x8a\x08", &number.to_le_bytes()[..]].concat()),
        2 => (0u8..4).prop_map(|key| vec![b'q', key]),
        2 => (0u8..4).prop_map(|key| vec![b'h', key]),
        2 => storage,
        1 => start,
    ]
}

/// `{"a": rebuild_tensor(storage of two, offset, shape, strides)}` and the storage.
fn tensor_file(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let long = |number: &i64| [b"\x8a\x08", &number.to_le_bytes()[..]].concat();
    let tuple = |numbers: &[i64]| [b"(".to_vec(), numbers.iter().flat_map(long).collect(), b"t".to_vec()].concat();
    let mut object = b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    object.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpuK\x02tQ");
    object.extend([long(&offset), tuple(shape), tuple(strides)].concat());
    object.extend(b"\x89}tRs.");
    let mut rest = b"]X\x01\x00\x00\x00ka.".to_vec();
    rest.extend(2u64.to_le_bytes());
    rest.extend([0; 8]);
    legacy(&object, &rest)
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..4, 1 => -2i64..100, 1 => any::<i64>(), 1 => Just(i64::MAX), 1 => (0u32..63).prop_map(|n| 1 << n)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), form in 0..4) {
        let _ = match form {
            0 => read(&bytes),
            1 => read(&[b"PK\x03\x04", &bytes[..]].concat()),
            2 => read(&[&b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"[..], &bytes[..]].concat()),
            _ => read(&legacy(&bytes, b"")),
        };
    }

    #[test]
    fn random_pickles_do_no_harm(operations in prop::collection::vec(operation(), 0..60)) {
        let mut rest = b".]X\x01\x00\x00\x00ka.".to_vec();
        rest.extend(2u64.to_le_bytes());
        rest.extend([0; 8]);
        let _ = read(&legacy(&operations.concat(), &rest));
    }

    /// What is read is what a naive walk over all elements says: each is one of the storage's two.
    #[test]
    fn a_view_is_read_exactly_where_every_element_is_in_the_storage(
        offset in number(),
        sides in prop::collection::vec((number(), number()), 0..4),
    ) {
        let (shape, strides): (Vec<i64>, Vec<i64>) = sides.into_iter().unzip();
        let bytes = tensor_file(offset, &shape, &strides);
        let wide = |numbers: &[i64]| numbers.iter().map(|&number| i128::from(number)).collect::<Vec<_>>();
        let (sides, steps) = (wide(&shape), wide(&strides));
        let plain = offset >= 0 && sides.iter().chain(&steps).all(|&number| number >= 0);
        let elements = sides.iter().filter(|&&side| side > 0).try_fold(4i128, |product, &side| product.checked_mul(side));
        let small = elements.is_some_and(|bytes_needed| bytes_needed <= bytes.len() as i128);
        // With an empty side no element is touched; the others' steps must not overflow all the same.
        let reach = sides.iter().zip(&steps).filter(|(side, _)| **side > 0).map(|(side, step)| (side - 1) * step);
        let last = i128::from(offset) + reach.sum::<i128>();
        let inside = if shape.contains(&0) { offset <= 2 && last <= i128::from(i64::MAX) } else { last < 2 };
        prop_assert_eq!(read(&bytes).is_ok(), plain && small && inside, "{} {:?} {:?}", offset, shape, strides);
    }

    #[test]
    fn real_files_with_changed_and_moved_bytes_do_no_harm(
        name in prop::sample::select(READABLE.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..24, any::<u8>(), 0..5), 1..6),
    ) {
        let mut bytes = golden(name);
        for (to, from, length, byte, what) in changes {
            let (to, from) = (to.index(bytes.len()), from.index(bytes.len()));
            let length = length.min(bytes.len() - to.max(from));
            match what {
                0 => bytes[to] = byte,
                1 => bytes[to..to + length].fill(byte),
                2 => bytes.copy_within(from..from + length, to),
                3 => {
                    let piece = bytes[from..from + length].to_vec();
                    bytes.splice(to..to, piece);
                }
                _ if bytes.len() > length + 1 => drop(bytes.drain(to..to + length)),
                _ => {}
            }
        }
        let _ = read(&bytes);
    }
}
