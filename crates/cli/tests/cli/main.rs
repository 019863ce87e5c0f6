//! The `kiva` binary as its users meet it: real processes on free ports.
//!
//! | module | shows |
//! |---|---|
//! | `help` | every command explains itself, and wrong usage ends with 2 |
//! | `serve` | ready lines, ports, signals, settings |
//! | `cluster` | schedulers and stores as processes of their own, and how they find each other |
//! | `ctl` | questions, answers and exit statuses |
//! | `files` | import and export |
//! | `inspect` | replicas compared, and the directories of stores that are stopped |
//! | `bench` | figures that programs can read, and verification that finds what is planted |
//! | `crash` | `kill -9` under write load loses nothing that was acknowledged |

mod bench;
mod cluster;
mod crash;
mod ctl;
mod files;
mod help;
mod inspect;
mod process;
mod serve;
