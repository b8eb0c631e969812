//! The build links what was set up: with the CUDA libraries installed the binary loads `libtorch_cuda`, and where there
//! is a GPU libtorch sees it. Without a GPU the second check says so and passes.

use std::path::Path;

/// `cpu` or `cuda`: what build.rs found beside libtorch.
const LINKED: &str = env!("SPNAS_LIBTORCH");

#[test]
fn libtorch_cuda_is_loaded_exactly_where_its_libraries_are_installed() {
    // Makes sure that libtorch itself is in the process.
    assert_eq!(tch::Tensor::from_slice(&[1_i64, 2, 3]).sum(tch::Kind::Int64).int64_value(&[]), 6);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("libtorch_cpu.so"), "libtorch is not loaded");
    assert_eq!(maps.contains("libtorch_cuda.so"), LINKED == "cuda", "build.rs found libraries for {LINKED}");
}

#[test]
fn a_gpu_is_seen_by_libtorch() {
    // A container may show any of a machine's GPUs alone.
    if !(0..64).any(|number| Path::new(&format!("/dev/nvidia{number}")).exists()) {
        println!("skipped: this machine has no NVIDIA GPU (/dev/nvidia0, 1, ...)");
        return;
    }
    if std::env::var("SPNAS_LIBTORCH").as_deref() == Ok("cpu") {
        println!("skipped: SPNAS_LIBTORCH=cpu asks for libtorch without CUDA");
        return;
    }
    assert_eq!(LINKED, "cuda", "there is a GPU, but libtorch without CUDA is set up: run `make setup`");
    assert!(
        tch::Cuda::is_available(),
        "libtorch_cuda is linked but sees no GPU: is the driver new enough for CUDA 13?"
    );
}
