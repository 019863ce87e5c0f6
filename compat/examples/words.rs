//! Scans with the official client what `kiva ctl import` has loaded.
//!
//! ```sh
//! cargo run --release -- ctl import --format lines /usr/share/dict/words
//! cd compat && cargo run --example words -- 127.0.0.1:2379 kiwi
//! ```

use anyhow::{Context, Result};
use tikv_client::RawClient;

/// Keys of one page.
const PAGE: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scheduler = arguments.next().context("usage: words SCHEDULER [PREFIX]")?;
    let prefix = arguments.next().unwrap_or_default();

    let client = RawClient::new(vec![scheduler]).await?;
    let mut start = prefix.clone().into_bytes();
    let mut count = 0;
    'pages: loop {
        let page = client.scan_keys(start.clone().., PAGE).await?;
        for key in &page {
            let word: &[u8] = key.into();
            if !word.starts_with(prefix.as_bytes()) {
                break 'pages;
            }
            if !prefix.is_empty() {
                println!("{}", String::from_utf8_lossy(word));
            }
            count += 1;
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
        // The first key behind the last one.
        start = <&[u8]>::from(last).to_vec();
        start.push(0);
    }
    println!("{count} words");
    Ok(())
}
