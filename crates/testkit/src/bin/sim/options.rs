//! What the command line says.

/// How the program is called.
pub(crate) const USAGE: &str = "\
usage: sim [--seed N=1] [--seeds K=1] [--workload NAME|all] [--seconds N=30] [--lines N=400]
           [--twice]

  --seed      the first seed
  --seeds     how many, one after the other
  --workload  register, append, membership, leaders, or all of them in turn
  --seconds   how long faults happen, in simulated time
  --lines     how many lines of the story a failure prints
  --twice     run every seed twice and compare the hashes";

/// What is to be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) seeds: u64,
    pub(crate) workload: Option<String>,
    pub(crate) seconds: u64,
    pub(crate) lines: usize,
    pub(crate) twice: bool,
}

impl Options {
    /// Reads arguments; an error names the one that is wrong.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { seed: 1, seeds: 1, workload: None, seconds: 30, lines: 400, twice: false };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            if name == "--twice" {
                options.twice = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number"));
            match name.as_str() {
                "--seed" => options.seed = number()?,
                "--seeds" => options.seeds = number()?,
                "--seconds" => options.seconds = number()?,
                "--lines" => options.lines = number()? as usize,
                "--workload" => options.workload = (value != "all").then_some(value),
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        Ok(options)
    }
}
