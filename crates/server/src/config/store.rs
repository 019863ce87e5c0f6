//! What a store is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, check_address, check_advertised, wrong};
use crate::limits::{
    LABELS_MAX, STORE_CACHE_BYTES, STORE_CACHE_BYTES_MIN, STORE_MEMTABLE_BYTES,
    STORE_MEMTABLE_BYTES_MIN, THREADS_MAX,
};
use crate::runtime::cores;

/// What a store is.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// Its directory; made when it is missing. Required; no default.
    pub data_dir: PathBuf,
    /// Client addresses of schedulers. Required; no default.
    pub schedulers: Vec<String>,
    /// Where it listens for clients and other stores. Default `127.0.0.1:20160`.
    pub addr: String,
    /// What clients are told to dial; set it when they reach `addr` under another name. Default:
    /// what is bound.
    pub advertise_addr: Option<String>,
    /// Where it answers `/status` and `/health`. Default `127.0.0.1:20180`.
    pub status_addr: String,
    /// For placement: where the store stands. Default: none.
    pub labels: BTreeMap<String, String>,
    /// Threads that serve clients; 0 is one per core. Lower it where other processes need cores.
    pub grpc_threads: usize,
    /// Threads for scans and other long reads; 0 is one per core.
    pub read_threads: usize,
    /// Memory for blocks of tables that were read. Default 256 MiB. The data that is read often
    /// should fit.
    pub cache_bytes: u64,
    /// A memtable is written to a table when it has so many bytes. Default 64 MiB. Larger ones
    /// make fewer tables and longer restarts.
    pub memtable_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            schedulers: Vec::new(),
            addr: "127.0.0.1:20160".to_owned(),
            advertise_addr: None,
            status_addr: "127.0.0.1:20180".to_owned(),
            labels: BTreeMap::new(),
            grpc_threads: 0,
            read_threads: 0,
            cache_bytes: STORE_CACHE_BYTES,
            memtable_bytes: STORE_MEMTABLE_BYTES,
        }
    }
}

impl StoreConfig {
    /// Checks every field, before anything is opened.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(wrong("store.data-dir", "is missing: name a directory"));
        }
        if self.schedulers.is_empty() {
            let reason = "is missing: name the client address of at least one scheduler";
            return Err(wrong("store.schedulers", reason));
        }
        for scheduler in &self.schedulers {
            let bare = scheduler.rsplit("://").next().unwrap_or(scheduler);
            check_address("store.schedulers", bare)?;
        }
        check_address("store.addr", &self.addr)?;
        check_address("store.status-addr", &self.status_addr)?;
        check_advertised("store.addr", &self.addr, self.advertise_addr.as_deref())?;
        if self.labels.len() > LABELS_MAX {
            return Err(wrong("store.labels", format!("has more than {LABELS_MAX} labels")));
        }
        if self.labels.keys().any(String::is_empty) {
            return Err(wrong("store.labels", "has a label without a name"));
        }
        for (field, threads) in
            [("store.grpc-threads", self.grpc_threads), ("store.read-threads", self.read_threads)]
        {
            if threads > THREADS_MAX {
                return Err(wrong(field, format!("is {threads}, expected 0 to {THREADS_MAX}")));
            }
        }
        let sizes = [
            ("store.cache-bytes", self.cache_bytes, STORE_CACHE_BYTES_MIN),
            ("store.memtable-bytes", self.memtable_bytes, STORE_MEMTABLE_BYTES_MIN),
        ];
        for (field, bytes, least) in sizes {
            if bytes < least {
                return Err(wrong(field, format!("is {bytes}, expected at least {least}")));
            }
        }
        Ok(())
    }

    /// Threads that serve clients.
    pub fn grpc_threads(&self) -> usize {
        if self.grpc_threads == 0 { cores() } else { self.grpc_threads }
    }

    /// Cores of this machine.
    pub fn cores(&self) -> usize {
        cores()
    }

    /// Threads for long reads.
    pub fn read_threads(&self) -> usize {
        if self.read_threads == 0 { cores() } else { self.read_threads }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn good() -> StoreConfig {
        StoreConfig {
            data_dir: "data".into(),
            schedulers: vec!["http://localhost:2379".to_owned()],
            ..StoreConfig::default()
        }
    }

    #[test]
    fn the_reference_file_is_the_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/store.toml");
        assert_eq!(Config::load(&path).unwrap().store, StoreConfig::default());
    }

    #[test]
    fn a_bad_value_names_its_field() {
        good().validate().unwrap();
        type Change = fn(&mut StoreConfig);
        let cases: [(&str, Change); 9] = [
            ("`store.data-dir`", |c| c.data_dir = PathBuf::new()),
            ("`store.schedulers`", |c| c.schedulers.clear()),
            ("`store.schedulers`", |c| c.schedulers.push("nowhere".into())),
            ("`store.addr`", |c| c.addr = "20160".into()),
            ("`store.addr` is 0.0.0.0:1", |c| c.addr = "0.0.0.0:1".into()),
            ("`store.status-addr`", |c| c.status_addr = String::new()),
            ("`store.labels`", |c| drop(c.labels.insert(String::new(), "x".into()))),
            ("`store.read-threads`", |c| c.read_threads = 10_000),
            ("`store.cache-bytes`", |c| c.cache_bytes = 1),
        ];
        for (words, change) in cases {
            let mut config = good();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}
