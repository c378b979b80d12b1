//! The checked-in Rust of the wire is what `proto/pams/v1` says today. With `UPDATE=1` it is written anew:
//!
//! ```text
//! UPDATE=1 cargo test -p pams-shared --features codegen --test proto
//! ```

use std::{env, fs, path::Path};

#[test]
fn the_generated_code_is_that_of_the_proto_files() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["pams/v1/frame.proto"], [package.join("proto")]).expect("proto/pams/v1 compiles");
    let out = tempfile::tempdir().expect("a temporary directory");
    prost_build::Config::new()
        // The byte fields of a frame share its buffer, instead of an allocation each.
        .bytes(["."])
        // Holds a secret; its Debug is written by hand.
        .skip_debug(["pams.v1.Join"])
        // Formatted by prost-build itself: the same on every machine, whatever rustfmt is there.
        .format(true)
        .out_dir(out.path())
        .compile_fds(files)
        .expect("code for proto/pams/v1");

    let made = fs::read_to_string(out.path().join("pams.v1.rs")).expect("one file a package");
    let path = package.join("src/proto/pams.v1.rs");
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, made).expect("src/proto is writable");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let line = kept.lines().zip(made.lines()).take_while(|(a, b)| a == b).count() + 1;
    assert!(
        kept == made,
        "src/proto/pams.v1.rs is not what proto/pams/v1 says, from line {line}; \
         run UPDATE=1 cargo test -p pams-shared --features codegen --test proto",
    );
}
