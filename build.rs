//! `.proto` to prost/tonic code, validation code, and one descriptor set with comments and imports, without `protoc`.

#[path = "build/validation.rs"]
mod validation;

use std::error::Error;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;

const FILES: [&str; 10] = [
    "admin",
    "article",
    "backup",
    "document",
    "keyword",
    "operations",
    "search",
    "sentiment",
    "source",
    "suggestion",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES.map(|file| format!("euhub/v1/{file}.proto")))?;
    let descriptors = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("euhub.binpb"), &descriptors)?;
    publish(&out, &descriptors)?;

    let files: FileDescriptorSet = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .build_transport(false)
        .bytes(".google.api.HttpBody")
        .compile_fds(files)?;
    std::fs::write(out.join("validation.rs"), validation::generate(&descriptors)?)?;
    Ok(())
}

/// Leaves the descriptor set beside the binaries (`target/<profile>/euhub.binpb`), where `ghz` and `grpcurl` can take it.
fn publish(out: &Path, descriptors: &[u8]) -> std::io::Result<()> {
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    match out.ancestors().nth(3) {
        Some(profile) => std::fs::write(profile.join("euhub.binpb"), descriptors),
        None => Ok(()),
    }
}
