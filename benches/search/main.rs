//! Fills a metadata store with many repositories, for benches/search/run.
//!
//! ```text
//! search fill CONFIG FROM TO            into the stores of a member's configuration, where benches/load.rs has pushed before
//! search name N                         how the N-th of them is called
//! ```

mod many;

use std::{path::Path, process::ExitCode, time::Instant};

use many::Result;
use portolan::{
    config::{self, Limits},
    oci, storage,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["fill", config, from, to] => fill(Path::new(config), from, to),
        ["name", n] => name(n),
        _ => Err("see the head of benches/search/main.rs".into()),
    };
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("search: {error}");
            ExitCode::FAILURE
        }
    }
}

fn name(n: &str) -> Result<String> {
    Ok(many::name(n.parse()?)?.to_string())
}

fn fill(config: &Path, from: &str, to: &str) -> Result<String> {
    let (from, to): (usize, usize) = (from.parse()?, to.parse()?);
    let text = std::fs::read_to_string(config)?;
    let config = config::parse(config, &text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let open = storage::open(&config.storage, &Limits::default()).await?;
        let begun = Instant::now();
        many::fill(&*open.stores().meta, from..to).await?;
        open.close().await;
        Ok(format!(
            "{} with {} tags in {:.0} s",
            to - from,
            (to - from) * many::TAGS,
            begun.elapsed().as_secs_f64()
        ))
    })
}
