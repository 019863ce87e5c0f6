//! Compiles `proto/` to Rust: `protox` parses, `tonic-prost-build` prints, and no `protoc` is
//! needed on the machine.

use std::error::Error;
use std::path::PathBuf;

/// Where compilation starts. All other files are imported by one of these.
const ROOTS: [&str; 6] = [
    "echopb.proto",
    "etcdserverpb.proto",
    "keyspacepb.proto",
    "kivapb.proto",
    "pdpb/pd.proto",
    "tikvpb.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(ROOTS)?;

    // Without comments: this copy ends up in the binary.
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    // With comments: they become the documentation of the generated types.
    let files = compiler.include_source_info(true).file_descriptor_set();
    tonic_prost_build::configure()
        // A value is a slice of the frame it came in, not a copy.
        .bytes(".")
        // The same message prints, and encodes, the same way every time.
        .btree_map(".")
        // A method that a service does not write answers UNIMPLEMENTED.
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
