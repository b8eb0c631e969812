//! Build script: tells the linker where libtorch is (rpath), and keeps `libtorch_cuda` in the binary where it is
//! installed: libtorch finds CUDA through static initialisers of that library, which the linker would drop as unused.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=build.rs");
    let Ok(libtorch) = std::env::var("LIBTORCH") else {
        return; // torch-sys says what to do.
    };
    let lib = Path::new(&libtorch).join("lib");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
