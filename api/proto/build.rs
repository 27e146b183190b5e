//! Compiles the `.proto` files with protox, so that no `protoc` is needed.
//!
//! The client and server stubs and the encoded descriptor set land in `OUT_DIR`; `src/lib.rs` includes them.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 5] = ["kv.proto", "auth.proto", "rpc.proto", "v3lock.proto", "v3election.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}
