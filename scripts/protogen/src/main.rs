//! Turns `molia.proto` into Rust: `protogen SCHEMA_DIR OUT_FILE`.

use std::path::Path;
use std::{env, error, fs};

const HEADING: &str =
    "// Generated from proto/molia.proto by scripts/regen-proto. Do not edit.\n\n";

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut args = env::args().skip(1);
    let (Some(schema_dir), Some(out), None) = (args.next(), args.next(), args.next()) else {
        return Err("usage: protogen SCHEMA_DIR OUT_FILE".into());
    };
    let schema = protox::compile(["molia.proto"], [&schema_dir])?;
    let requests = schema
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = prost_build::Config::new().generate(requests)?;
    let code: String = modules.into_values().collect();
    fs::write(Path::new(&out), HEADING.to_owned() + &code)?;
    Ok(())
}
