//! The numbers that the scripts of `tests/reference/` fill weights and images with, so that neither has to be kept in a file.

/// The scripts' generator: FNV-1a of the name seeds Knuth's MMIX generator, of which the upper 24 bits are used.
pub(crate) fn uniforms(name: &str, count: i64) -> Vec<f64> {
    let seed = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, seed);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    (0..count).map(|_| next()).collect()
}
