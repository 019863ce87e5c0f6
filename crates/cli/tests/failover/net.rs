//! Where the processes of a cluster are, and how one of them is cut off.
//!
//! On loopback nothing can be cut. In *namespaces* each store has a network of its own, joined to a
//! bridge by a virtual cable:
//!
//! ```text
//!   test, scheduler ── bridge ══ host end ─ cable ─ eth0 ── store 0
//!        .1               ╚═════ host end ─ cable ─ eth0 ── store 1 …        .10 .11 …
//! ```
//!
//! What is queued for either end of a cable can be thrown away without a word (the queueing
//! discipline `blackhole`), which is what a broken switch does: no connection is refused or reset.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Stores that get a namespace.
const STORES: usize = 3;

/// Networks made by this process: their names and addresses differ.
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// Where the processes are.
pub(crate) enum Net {
    /// All on loopback, each store with an address of its own: a port that it had and wants again
    /// is taken by nobody's outgoing connection meanwhile.
    Loopback,
    /// Each store in a namespace.
    Namespaces(Namespaces),
}

/// Which packets of a store are dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// All.
    Both,
    /// Those to it.
    To,
    /// Those from it.
    From,
    /// Those from it to other stores; clients and the scheduler are reached.
    FromStores,
}

/// A bridge, and a namespace for each store. Taken down when it is dropped.
pub(crate) struct Namespaces {
    /// What all names begin with.
    name: String,
    /// The first three parts of all addresses.
    subnet: String,
}

impl Net {
    pub(crate) fn loopback() -> Self {
        Self::Loopback
    }

    /// Sets the namespaces up, or says why this machine does not allow it.
    pub(crate) fn namespaces() -> Result<Self, String> {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let net = Namespaces {
            name: format!("kv{}x{number}", process % 100_000),
            // Of the private addresses, a part that hardly anybody uses.
            subnet: format!("10.{}.{}", 200 + number % 50, process % 250),
        };
        net.set_up()?;
        Ok(Self::Namespaces(net))
    }

    /// Where the scheduler listens.
    pub(crate) fn scheduler(&self) -> String {
        match self {
            Self::Loopback => "127.0.0.1:0".to_owned(),
            Self::Namespaces(net) => format!("{}.1:0", net.subnet),
        }
    }

    /// The host of a store.
    pub(crate) fn store(&self, store: usize) -> String {
        match self {
            Self::Loopback => format!("127.0.0.{}", 10 + store),
            Self::Namespaces(net) => net.host(store),
        }
    }

    /// What a command has to begin with to run where the store is.
    pub(crate) fn prefix(&self, store: usize) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Namespaces(net) => {
                ["ip", "netns", "exec", &net.space(store)].map(str::to_owned).into()
            }
        }
    }

    /// Drops packets of a store from now on, or no more.
    pub(crate) fn cut(&self, store: usize, cut: Cut, on: bool) {
        let Self::Namespaces(net) = self else { panic!("loopback cannot be cut") };
        net.cut(store, cut, on).expect("what was set up can be cut");
    }
}

impl Namespaces {
    fn space(&self, store: usize) -> String {
        format!("{}s{store}", self.name)
    }

    fn host_end(&self, store: usize) -> String {
        format!("{}h{store}", self.name)
    }

    fn host(&self, store: usize) -> String {
        format!("{}.{}", self.subnet, 10 + store)
    }

    fn set_up(&self) -> Result<(), String> {
        let Self { name, subnet } = self;
        run(&format!("ip link add {name} type bridge"))?;
        run(&format!("ip addr add {subnet}.1/24 dev {name}"))?;
        run(&format!("ip link set {name} up"))?;
        for store in 0..STORES {
            let (space, end, host) = (self.space(store), self.host_end(store), self.host(store));
            run(&format!("ip netns add {space}"))?;
            run(&format!("ip link add {end} type veth peer name eth0 netns {space}"))?;
            run(&format!("ip link set {end} master {name} up"))?;
            run(&format!("ip -n {space} addr add {host}/24 dev eth0"))?;
            run(&format!("ip -n {space} link set eth0 up"))?;
            run(&format!("ip -n {space} link set lo up"))?;
            // Tried once, so that what cannot be cut is skipped and not failed.
            for on in [true, false] {
                self.cut(store, Cut::Both, on)?;
            }
        }
        Ok(())
    }

    fn cut(&self, store: usize, cut: Cut, on: bool) -> Result<(), String> {
        let (space, end) = (self.space(store), self.host_end(store));
        let verb = if on { "add" } else { "del" };
        if matches!(cut, Cut::Both | Cut::To) {
            run(&format!("tc qdisc {verb} dev {end} root blackhole"))?;
        }
        if matches!(cut, Cut::Both | Cut::From) {
            run(&format!("tc -n {space} qdisc {verb} dev eth0 root blackhole"))?;
        }
        if cut == Cut::FromStores {
            for other in (0..STORES).filter(|other| *other != store) {
                let host = self.host(other);
                run(&format!("ip -n {space} route {verb} blackhole {host}/32"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Each of them may not have been made.
        for store in 0..STORES {
            let _ = run(&format!("ip link del {}", self.host_end(store)));
            let _ = run(&format!("ip netns del {}", self.space(store)));
        }
        let _ = run(&format!("ip link del {}", self.name));
    }
}

/// Runs a command of the system.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a name");
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|error| format!("`{command}`: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`{command}`: {}", said.trim_end()))
        }
    }
}
