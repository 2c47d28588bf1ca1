//! The header is what the sources give: `DYT_WRITE_HEADER=1 cargo test -p dyt-capi --test header` writes it anew.

use std::error::Error;
use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config};

#[test]
fn the_header_is_what_the_sources_give() -> Result<(), Box<dyn Error>> {
    let capi = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = Config::from_file(capi.join("cbindgen.toml"))?;
    let builder = Builder::new().with_config(config).with_lockfile(capi.join("../Cargo.lock"));
    let mut made = Vec::new();
    builder.with_crate(capi).generate()?.write(&mut made);
    let header = capi.join("include/dyt.h");
    if std::env::var_os("DYT_WRITE_HEADER").is_some() {
        fs::write(&header, &made)?;
    }
    let made = String::from_utf8(made)?;
    for (number, (expected, actual)) in made.lines().zip(fs::read_to_string(&header)?.lines()).enumerate() {
        assert_eq!(
            actual,
            expected,
            "capi/include/dyt.h is stale at line {}: see the top of this test",
            number + 1
        );
    }
    assert_eq!(fs::read_to_string(&header)?, made, "capi/include/dyt.h is stale");
    Ok(())
}
