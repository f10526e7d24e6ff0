//! The messages of the edge's tests as prost structs with pbjson's serde code, and their service as tonic's.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../edge/tests/proto/codec.proto");
    let mut compiler = protox::Compiler::new(["../edge/tests/proto", "../proto"])?;
    compiler.include_imports(true).open_file("codec.proto")?;
    let descriptors = compiler.encode_file_descriptor_set();
    std::fs::write(format!("{}/codec.binpb", std::env::var("OUT_DIR")?), &descriptors)?;
    tonic_prost_build::configure()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_well_known_types(true)
        .compile_fds(compiler.file_descriptor_set())?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors)?
        .extern_path(".google.protobuf", "::pbjson_types")
        .emit_fields()
        // Its generator takes no quotes in a field's JSON name.
        .exclude([".codec.test.Names"])
        .build(&[".codec.test"])?;
    Ok(())
}
