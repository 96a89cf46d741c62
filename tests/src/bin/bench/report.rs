//! The frame around the figures: what machine, what programs, how large.

use crate::setup::{Bench, file_size};
use anyhow::Result;

pub(crate) fn heading(bench: &Bench) -> Result<()> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    println!(
        "Linux {}, {cores} cores ({model}), load {}",
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    );
    println!(
        "slash32 {}, reference plugins in {}",
        env!("CARGO_PKG_VERSION"),
        bench.options.reference.display()
    );
    Ok(())
}

pub(crate) fn sizes(bench: &Bench) -> Result<()> {
    println!("\nBinaries");
    for program in [
        bench.slash32(),
        bench.options.binaries.join("slash32-ipam"),
        bench.agent(),
    ] {
        println!(
            "{:<28} {:>9} KiB",
            program.file_name().unwrap_or_default().to_string_lossy(),
            file_size(&program)? / 1024
        );
    }
    Ok(())
}
