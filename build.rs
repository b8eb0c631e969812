//! Build script: tells the linker where libtorch is, and keeps `libtorch_cuda` in the binary where it can be loaded.
//! Compiles the little that torch-sys does not bind. In flows `LIBTORCH` (set by `.cargo/config.toml`); out flow linker flags,
//! the variable `SPNAS_LIBTORCH` and the cfg `spnas_bindings`.

use std::path::{Path, PathBuf};

/// What torch-sys does not bind.
const BINDINGS: [&str; 2] = ["src/workers/measure/allocator.cpp", "src/train/half.cpp"];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    for file in BINDINGS {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rustc-check-cfg=cfg(spnas_bindings)");
    let Ok(libtorch) = std::env::var("LIBTORCH") else {
        println!("cargo:rustc-env=SPNAS_LIBTORCH=cpu");
        return; // torch-sys has already said what is missing.
    };
    let libtorch = PathBuf::from(libtorch);
    let lib = libtorch.join("lib");
    let nvidia = libtorch.with_file_name("nvidia");
    // The stamp is what the set-up writes last, so it is newer than any build against the libraries it replaced.
    for watched in [&lib, &nvidia, &libtorch.with_file_name(".stamp")] {
        if watched.exists() {
            println!("cargo:rerun-if-changed={}", watched.display());
        }
    }

    compile_bindings(&libtorch);

    // Where the program looks for libtorch: beside itself first, so that the project's folder can be moved (binaries lie
    // in `target/PROFILE/`, tests and examples one folder deeper), then where libtorch is now.
    for rpath in ["$ORIGIN/../../.libtorch/torch/lib", "$ORIGIN/../../../.libtorch/torch/lib"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{rpath}");
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());

    // libtorch finds CUDA through static initialisers of libtorch_cuda. No symbol of it is used, so a linker that links
    // what is needed would drop it, and `Cuda::is_available` would answer `false` on a machine with a GPU.
    let cuda = lib.join("libtorch_cuda.so").exists() && has_libraries_of_cuda(&lib, &nvidia);
    if cuda {
        println!("cargo:rustc-link-search=native={}", lib.display());
        println!("cargo:rustc-link-arg=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
    println!("cargo:rustc-env=SPNAS_LIBTORCH={}", if cuda { "cuda" } else { "cpu" });
}

/// Binds what needs interfaces that libtorch has for all devices alike since 2.8.
fn compile_bindings(libtorch: &Path) {
    let include = libtorch.join("include");
    let header = include.join("c10/core/CachingDeviceAllocator.h");
    let has_interface = std::fs::read_to_string(header).is_ok_and(|text| text.contains("getDeviceAllocator"));
    if has_interface {
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .warnings(false)
            .include(include)
            .files(BINDINGS)
            .compile("spnas_bindings");
        println!("cargo:rustc-cfg=spnas_bindings");
    }
}

/// Whether what `libtorch_cuda` loads is there. PyTorch's wheel always holds `libtorch_cuda` but not those, and a
/// program linked to it would not start without them.
fn has_libraries_of_cuda(lib: &Path, nvidia: &Path) -> bool {
    let mut folders = vec![lib.to_path_buf()];
    for vendor in entries(nvidia) {
        folders.push(vendor.join("lib"));
    }
    ["libcublas.so", "libcudnn.so"].iter().all(|library| {
        folders
            .iter()
            .flat_map(|folder| entries(folder))
            .any(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(library)))
    })
}

/// The entries of a folder; none if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
