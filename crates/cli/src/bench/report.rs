//! What a person or a program reads: a line each second, and a summary.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Plan;
use super::engine::{Interval, Measured};
use super::verify::Verified;
use crate::exit::Failure;
use crate::output::{Output, thousands};

/// The percentiles that are shown.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.50), ("p99", 0.99), ("p99.9", 0.999)];

/// What is about to be done.
pub(super) fn head(plan: &Plan, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return Ok(());
    }
    let (workload, target, clients) = (plan.workload.name(), plan.target.name(), plan.clients);
    let (connections, threads) = (plan.connections, plan.threads);
    out.line(&format!(
        "{workload} on {target}: {clients} clients, {connections} connections, {threads} threads, \
         {} keys, {} byte values, seed {}",
        thousands(plan.keys),
        plan.value_size,
        plan.seed
    ))?;
    out.line(&line(["second", "per second", "p50", "p99", "p99.9", "errors"].map(str::to_owned)))?;
    out.flush()?;
    Ok(())
}

/// One second.
pub(super) fn second(second: u64, interval: &Interval, out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        let mut object = numbers(interval);
        object["second"] = second.into();
        out.object(&object)?;
    } else {
        out.line(&row(&second.to_string(), interval))?;
    }
    out.flush()?;
    Ok(())
}

/// Everything together.
pub(super) fn summary(
    plan: &Plan,
    measured: &Measured,
    verified: &Verified,
    out: &mut Output,
) -> Result<(), Failure> {
    let total = &measured.total;
    let per_operation =
        measured.processor_time.as_secs_f64() * 1e6 / total.operations.max(1) as f64;
    let error = measured.first_error.as_ref().map(|error| error.message.as_str());
    if out.is_json() {
        let mut object = numbers(total);
        object["summary"] = json!({
            "target": plan.target.name(),
            "workload": plan.workload.name(),
            "wire": match plan.wire {
                kiva_client::Wire::Unary => "unary",
                kiva_client::Wire::Batch => "batch",
            },
            "clients": plan.clients,
            "connections": plan.connections,
            "threads": plan.threads,
            "keys": plan.keys,
            "value_size": plan.value_size,
            "seed": plan.seed,
            "seconds": total.elapsed.as_secs_f64(),
            "is_interrupted": measured.is_interrupted,
            "first_error": error,
            "client_cpu_us_per_operation": per_operation,
            "client_cpu_cores": cores(measured),
        });
        object["verification"] = json!({
            "checked": verified.checked,
            "mismatches": verified.mismatches,
            "first": verified.first,
        });
        out.object(&object)?;
        return Ok(());
    }
    out.line(&row("all", total))?;
    out.line(&format!(
        "{} operations in {:.1} s; this process used {:.2} cores, {per_operation:.1} µs for each",
        thousands(total.operations),
        total.elapsed.as_secs_f64(),
        cores(measured),
    ))?;
    if let Some(error) = error {
        out.line(&format!("first error: {error}"))?;
    }
    out.line(&format!(
        "verified {}: {}",
        thousands(verified.checked),
        match &verified.first {
            None => "all as it must be".to_owned(),
            Some(first) => format!("{} WRONG, first: {first}", thousands(verified.mismatches)),
        }
    ))?;
    Ok(())
}

/// Processors that this process kept busy.
fn cores(measured: &Measured) -> f64 {
    match measured.total.elapsed.as_secs_f64() {
        0.0 => 0.0,
        seconds => measured.processor_time.as_secs_f64() / seconds,
    }
}

fn numbers(interval: &Interval) -> Value {
    let micros = |quantile| interval.latencies.value_at_quantile(quantile) as f64 / 1e3;
    json!({
        "operations": interval.operations,
        "errors": interval.errors,
        "per_second": interval.rate(),
        "p50_us": micros(0.50),
        "p99_us": micros(0.99),
        "p999_us": micros(0.999),
        "max_us": interval.latencies.max() as f64 / 1e3,
    })
}

fn row(second: &str, interval: &Interval) -> String {
    let [p50, p99, p999] = PERCENTILES.map(|(_, quantile)| at(&interval.latencies, quantile));
    line([
        second.to_owned(),
        thousands(interval.rate().round() as u64),
        p50,
        p99,
        p999,
        thousands(interval.errors),
    ])
}

/// Cells under each other, to the right.
fn line(cells: [String; 6]) -> String {
    let [second, rate, p50, p99, p999, errors] = cells;
    format!("{second:>6} {rate:>12} {p50:>10} {p99:>10} {p999:>10} {errors:>8}")
}

fn at(latencies: &Histogram<u64>, quantile: f64) -> String {
    show(Duration::from_nanos(latencies.value_at_quantile(quantile)))
}

/// Three digits and a unit.
fn show(latency: Duration) -> String {
    let micros = latency.as_secs_f64() * 1e6;
    match micros {
        ..10.0 => format!("{micros:.2} µs"),
        ..100.0 => format!("{micros:.1} µs"),
        ..1_000.0 => format!("{micros:.0} µs"),
        ..10_000.0 => format!("{:.2} ms", micros / 1e3),
        ..100_000.0 => format!("{:.1} ms", micros / 1e3),
        ..1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits_and_a_unit() {
        let micros = [1, 42, 412, 1_234, 45_678, 456_789, 4_567_890];
        let shown = micros.map(|micros| show(Duration::from_micros(micros)));
        let wanted = ["1.00 µs", "42.0 µs", "412 µs", "1.23 ms", "45.7 ms", "457 ms", "4.57 s"];
        assert_eq!(shown, wanted);
    }
}
