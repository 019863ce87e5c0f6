//! The judge of histories: scripts of histories that are right and wrong in every way we know, and
//! histories of a real register, as they are and with one answer changed.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use goldenscript::Command;
use kiva_base::{Key, Moment};
use kiva_testkit::check::linearizable::Reason;
use kiva_testkit::check::{Action, Answer, Operation, Outcome, Value, linearizable};
use kiva_testkit::script::{Arguments, ScriptError, run_directory};
use kiva_testkit::sim::Rng;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use support::register::{Shape, history};

#[test]
fn histories_are_judged() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/linearizable");
    run_directory(&scripts, Runner::default);
}

/// Commands are operations, and `check`, which judges what came before it in its block:
///
/// ```text
/// put VALUE        by=CLIENT at=BEGIN..END [key=x] [outcome=unknown|refused]
/// delete           …
/// get saw=VALUE    …
/// cas EXPECTED NEW saw=VALUE …
/// ```
///
/// `none` is no value. Ends are seconds and all different.
#[derive(Default)]
struct Runner {
    history: Vec<Operation>,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, ScriptError> {
        if command.name == "check" {
            let mut history = std::mem::take(&mut self.history);
            history.sort_by_key(|operation| operation.asked);
            return Ok(match linearizable(&history) {
                Ok(checked) => format!("{checked}\n"),
                Err(violation) => violation.to_string(),
            });
        }
        let operation = parse(command)?;
        self.history.push(operation);
        Ok(String::new())
    }
}

fn value(text: &str) -> Option<Value> {
    (text != "none").then(|| Value::from(text.to_owned()))
}

fn parse(command: &Command) -> Result<Operation, ScriptError> {
    let mut arguments = Arguments::of(command);
    let client = arguments.number_or("by", 1)?;
    let key = Key::from(arguments.text("key").unwrap_or("x").to_owned());
    let (begin, end) = arguments.required("at")?.split_once("..").ok_or("at=BEGIN..END")?;
    let moment = |text: &str| -> Result<(u64, Moment), ScriptError> {
        let seconds = text.parse()?;
        Ok((seconds, Moment::after_start(Duration::from_secs(seconds))))
    };
    let saw = arguments.text("saw").map(value);
    let outcome = arguments.text("outcome");
    let (action, answer) = match command.name.as_str() {
        "put" => {
            (Action::Put(value(arguments.next("a value")?).ok_or("a value")?), Some(Answer::Done))
        }
        "delete" => (Action::Delete, Some(Answer::Done)),
        "get" => (Action::Get, saw.map(Answer::Got)),
        "cas" => {
            let expected = value(arguments.next("what is expected")?);
            let new = value(arguments.next("a value")?).ok_or("a value")?;
            let swapped = arguments.number_or("swapped", saw.as_ref() == Some(&expected))?;
            let answer = saw.map(|previous| Answer::Compared { swapped, previous });
            (Action::CompareAndSwap { expected, new }, answer)
        }
        name => return Err(format!("unknown command {name}").into()),
    };
    arguments.finish()?;
    let outcome = match outcome {
        Some("unknown") => Outcome::Unknown,
        Some("refused") => Outcome::Refused,
        Some(outcome) => return Err(format!("unknown outcome {outcome}").into()),
        None => Outcome::Answered(answer.ok_or("saw=VALUE is missing")?),
    };
    let ended = if end.is_empty() { None } else { Some(moment(end)?) };
    Ok(Operation { client, key, action, asked: moment(begin)?, ended, outcome })
}

fn shape() -> impl Strategy<Value = Shape> {
    (1..6_usize, 10..60_usize, 0..50_u64, any::<bool>()).prop_map(
        |(clients, operations, unknown_percent, has_unique_values)| Shape {
            clients,
            operations,
            unknown_percent,
            refused_percent: 5,
            has_unique_values,
        },
    )
}

/// Inputs that failed are kept beside this file: tests have no root that `proptest` would find.
fn config() -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(persistence)),
        ..ProptestConfig::with_cases(2_000)
    }
}

proptest! {
    #![proptest_config(config())]

    /// What a real register answered is never condemned.
    #[test]
    fn a_real_register_is_linearizable(seed: u64, shape in shape()) {
        let history = history(&mut Rng::seeded(seed), &shape);
        if let Err(violation) = linearizable(&history) {
            panic!("{violation}");
        }
    }

    /// The search agrees with one that tries every order, on histories small enough for that,
    /// whether they are right or wrong.
    #[test]
    fn the_search_agrees_with_trying_every_order(
        seed: u64,
        operations in 2..8_usize,
        unknown_percent in 0..60_u64,
        has_unique_values: bool,
        changes in 0..3_usize,
    ) {
        let (clients, refused_percent) = (3, 5);
        let shape =
            Shape { clients, operations, unknown_percent, refused_percent, has_unique_values };
        let mut rng = Rng::seeded(seed);
        let mut history = history(&mut rng, &shape);
        for _ in 0..changes {
            support::register::change_an_answer(&mut rng, &mut history);
        }
        let expected = support::brute::is_linearizable(&history);
        prop_assert_eq!(linearizable(&history).is_ok(), expected, "{}", print(&history));
    }
}

fn print(history: &[Operation]) -> String {
    let mut text = String::new();
    for operation in history {
        writeln!(text, "{operation}").expect("a string takes any text");
    }
    text
}

/// Not every change makes a history wrong: what was read may have held at another moment too.
#[test]
fn most_changed_answers_are_noticed() {
    let shape = Shape {
        clients: 4,
        operations: 60,
        unknown_percent: 5,
        refused_percent: 5,
        has_unique_values: true,
    };
    let mut noticed = 0;
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let mut history = history(&mut rng, &shape);
        support::register::change_an_answer(&mut rng, &mut history);
        noticed += usize::from(linearizable(&history).is_err());
    }
    assert!(noticed > 150, "only {noticed} of 200 wrong histories were condemned");
}

/// Thousands of operations on one key, a third of which nobody knows the outcome of.
#[test]
fn many_unknown_outcomes_stay_few_configurations() {
    let shape = Shape {
        clients: 8,
        operations: 4_000,
        unknown_percent: 33,
        refused_percent: 5,
        has_unique_values: true,
    };
    for seed in 0..5 {
        let history = history(&mut Rng::seeded(seed), &shape);
        let checked = linearizable(&history).unwrap_or_else(|violation| panic!("{violation}"));
        println!("{} configurations at most", checked.configurations);
        assert!(checked.configurations < 1_000, "{checked:?}");
    }
}

/// Values that are written again and again may make it too hard to tell; then that is the answer.
#[test]
fn the_search_ends_when_it_is_too_hard() {
    let shape = Shape {
        clients: 8,
        operations: 4_000,
        unknown_percent: 33,
        refused_percent: 5,
        has_unique_values: false,
    };
    let history = history(&mut Rng::seeded(1), &shape);
    let violation = linearizable(&history).expect_err("this one is too hard");
    assert_eq!(violation.reason, Reason::GaveUp, "{violation}");
}
