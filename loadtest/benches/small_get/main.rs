//! A small GET through the edge against the same call by gRPC: latency of one connection in a closed loop, and CPU time of
//! the servers for a request. Then the edge beside 200 slow clients, and beside one that is far over its rate limit.
//!
//! Servers are processes of their own, so that their CPU time can be told from the load's: this program, started again.
//!
//! ```sh
//! cargo bench -p euhub-loadtest --bench small_get [-- [--requests N] [--json]]
//! ```

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod client;
mod server;

use std::error::Error;
use std::time::Duration;

use client::{Grpc, Rest, Times};
use serde_json::{Value, json};
use server::Process;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Turns that the ways to call take, so that all meet the same other load.
const TURNS: usize = 5;
/// Before a way to call is measured.
const WARM_UP: usize = 1000;
const SLOW_CLIENTS: usize = 200;
const FLOOD: usize = 10_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = args.iter().position(|arg| arg == "--serve") {
        return server::run(&args[at + 1..]);
    }
    let requests = match args.iter().position(|arg| arg == "--requests") {
        Some(at) => args.get(at + 1).ok_or("--requests takes a number")?.parse()?,
        None => 20_000,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(measure(requests))?;
    if args.iter().any(|arg| arg == "--json") {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

async fn measure(requests: usize) -> Result<Value> {
    let core = Process::start(&["core"])?;
    let edge = Process::start(&["edge", &core.address])?;
    let standalone = Process::start(&["standalone"])?;
    eprintln!("one call in three ways ...");
    let mut rows = calls(&core, &edge, &standalone, requests).await?;
    eprintln!("slow clients ...");
    rows.extend(slow_clients(&standalone, requests / 4).await?);
    for pace in [Some(1000), None] {
        eprintln!("a client over its limit ...");
        rows.extend(flood(&standalone, pace, requests / 4).await?);
    }
    Ok(json!({ "requests": requests, "rows": rows }))
}

/// The same call in three ways, turn by turn.
async fn calls(core: &Process, edge: &Process, standalone: &Process, requests: usize) -> Result<Vec<Value>> {
    // Each asks at once: a connection that is silent at first is not kept for long.
    let mut grpc = Grpc::connect(&core.address).await?;
    grpc.repeat(WARM_UP).await?;
    let mut in_process = Rest::connect(&standalone.address).await?;
    in_process.repeat(WARM_UP).await?;
    let mut by_socket = Rest::connect(&edge.address).await?;
    by_socket.repeat(WARM_UP).await?;
    let (mut direct, mut one, mut two) = (Times::default(), Times::default(), Times::default());
    let mut cpu = [Duration::ZERO; 3];
    for _ in 0..TURNS {
        let before = core.cpu()?;
        direct.extend(grpc.repeat(requests / TURNS).await?);
        cpu[0] += core.cpu()? - before;
        let before = standalone.cpu()?;
        one.extend(in_process.repeat(requests / TURNS).await?);
        cpu[1] += standalone.cpu()? - before;
        let before = core.cpu()? + edge.cpu()?;
        two.extend(by_socket.repeat(requests / TURNS).await?);
        cpu[2] += core.cpu()? + edge.cpu()? - before;
    }
    Ok([("gRPC", direct), ("edge, service in process", one), ("edge, service behind a socket", two)]
        .into_iter()
        .zip(cpu)
        .map(|((what, times), cpu)| row(what, times, Some(cpu)))
        .collect())
}

async fn slow_clients(standalone: &Process, requests: usize) -> Result<Vec<Value>> {
    let mut rest = Rest::connect(&standalone.address).await?;
    let before = rest.repeat(requests).await?;
    let slow = client::Slow::start(&standalone.address, SLOW_CLIENTS);
    // All are connected, and the first were cut off for their slowness.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let during = rest.repeat(requests).await?;
    let bytes = slow.stop();
    let mut rows = vec![
        row("before slow clients", before, None),
        row(&format!("beside {SLOW_CLIENTS} slow clients"), during, None),
    ];
    rows[1]["slow_bytes"] = json!(bytes);
    Ok(rows)
}

/// One address far over its limit, at a pace or as fast as it gets answers, while others are measured.
async fn flood(standalone: &Process, pace: Option<u32>, requests: usize) -> Result<Vec<Value>> {
    let mut rest = Rest::connect(&standalone.address).await?;
    let before = rest.repeat(requests).await?;
    let flood = client::Flood::start(&standalone.address, FLOOD, pace);
    let mut during = Times::default();
    while !flood.is_over() {
        during.extend(rest.repeat(10).await?);
    }
    let (refused, time) = flood.end()?;
    let what = match pace {
        Some(pace) => format!("beside {FLOOD} requests over the limit, {pace}/s"),
        None => format!("beside {FLOOD} requests over the limit, as fast as can be"),
    };
    let mut rows = vec![row("before the flood", before, None), row(&what, during, None)];
    rows[1]["refused"] = json!(refused);
    rows[1]["flood_per_second"] = json!((FLOOD as f64 / time.as_secs_f64()).round());
    Ok(rows)
}

fn row(what: &str, mut times: Times, cpu: Option<Duration>) -> Value {
    let micros = |time: Duration| (time.as_nanos() as f64 / 100.0).round() / 10.0;
    let mut row = json!({
        "what": what, "requests": times.len(), "p50_us": micros(times.quantile(0.5)), "p95_us": micros(times.quantile(0.95)),
    });
    if let Some(cpu) = cpu {
        row["server_cpu_us"] = json!(micros(cpu / times.len() as u32));
    }
    row
}

fn print(report: &Value) {
    println!(
        "{:<56} {:>8} {:>9} {:>9} {:>14}",
        "one connection", "requests", "p50 us", "p95 us", "server CPU us"
    );
    for row in report["rows"].as_array().into_iter().flatten() {
        let text = |name: &str| row.get(name).map(Value::to_string).unwrap_or_default();
        println!(
            "{:<56} {:>8} {:>9} {:>9} {:>14}",
            row["what"].as_str().unwrap_or_default(),
            text("requests"),
            text("p50_us"),
            text("p95_us"),
            text("server_cpu_us"),
        );
        for (name, unit) in
            [("refused", "of the flood were refused"), ("flood_per_second", "requests a second of it")]
        {
            if let Some(number) = row.get(name) {
                println!("{:<56} {number} {unit}", "");
            }
        }
    }
}
