//! torchvision's numbers for the unit tests, from `tests/reference/make_detector_golden.py`, and the inputs that they
//! were made from.

use tch::{Kind, Tensor};

use crate::weights::{Tensors, safetensors};

/// The golden file.
pub(crate) fn golden() -> Tensors {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/detector_golden.safetensors");
    safetensors::from_bytes(&std::fs::read(path).unwrap()).unwrap().0
}

/// The script's `fill` for maps: numbers in 0..1 by the tensor's name.
pub(crate) fn fill(name: &str, shape: &[i64]) -> Tensor {
    let seed = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        })
        .collect();
    Tensor::from_slice(&values).view(shape)
}

/// Asserts that all elements agree within `tolerance`, relative to the largest.
pub(crate) fn close(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), expected.size(), "{what}");
    let scale = expected.abs().max().double_value(&[]).max(1e-6);
    let worst = (got - expected).abs().max().double_value(&[]);
    assert!(worst <= tolerance * scale, "{what}: {worst} of {scale}");
    assert_eq!(got.kind(), Kind::Float);
}
