//! What shells and `man` are given.

use std::fs;

use crate::common::{refusal, run, says, wgquant};

#[test]
fn shells_complete_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        says(&run(&["completions", shell]), &["perplexity", "max-ppl-increase", "test-ops"]);
    }
}

#[test]
fn a_page_for_each_command() {
    says(&run(&["man"]), &[".TH wgquant 1", ".SH SYNOPSIS", "perplexity"]);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("share/man1");
    assert!(run(&["man", "-o", dir.to_str().unwrap()]).is_empty());
    let help = run(&["--help"]);
    let listed = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| !l.is_empty());
    let commands = listed.filter_map(|l| l.strip_prefix("  ")?.split(' ').next()).filter(|c| !["", "help"].contains(c));
    let pages: Vec<String> = commands.map(|c| format!("wgquant-{c}.1")).collect();
    assert!(pages.len() > 15, "{pages:?}");
    for page in pages.iter().map(String::as_str).chain(["wgquant.1", "wgquant-test-ops-perf.1"]) {
        says(&fs::read_to_string(dir.join(page)).unwrap(), &[".SH SYNOPSIS"]);
    }
    let file = dir.join("wgquant.1");
    says(&refusal(wgquant().args(["man", "-o"]).arg(&file)), &["--output", file.to_str().unwrap()]);
}
