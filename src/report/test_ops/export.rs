//! The result file as JUnit XML and CSV.

use std::fmt::Write as _;

use super::{CaseRecord, ResultFile, Status};
use crate::report::html::escape;

impl ResultFile {
    /// JUnit: a suite a kernel; what was expected does not count as failure.
    #[must_use]
    pub fn junit(&self) -> String {
        let unexpected = self.cases.iter().filter(|c| c.status.unexpected()).count();
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"wgquant test-ops on {}\" tests=\"{}\" failures=\"{unexpected}\" time=\"{:.3}\">\n",
            xml(&self.adapter.name),
            self.cases.len(),
            self.seconds
        );
        for (kernel, variant, cases) in self.rows() {
            let failures = cases.iter().filter(|c| c.status.unexpected()).count();
            let skipped = cases.iter().filter(|c| skipped(c.status)).count();
            let _ = writeln!(
                out,
                "<testsuite name=\"{kernel}.{variant}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">",
                cases.len()
            );
            cases.iter().for_each(|c| out.push_str(&testcase(c)));
            out.push_str("</testsuite>\n");
        }
        out + "</testsuites>\n"
    }

    /// CSV with a head line.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut out = String::from(
            "adapter,driver,backend,kernel,case,variant,params,status,shader,nmse,tolerance,ties,ms,seed,us,gb_per_s,gflop_per_s,percent_of_copy,percent_of_fma,message\n",
        );
        for c in &self.cases {
            let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:e}"));
            let cells = [
                self.adapter.name.clone(),
                self.driver(),
                self.adapter.backend.clone(),
                c.id.kernel.clone(),
                c.id.case.clone(),
                c.id.variant.clone(),
                c.params.clone(),
                format!("{:?}", c.status),
                c.shader.clone(),
                number(c.nmse),
                format!("{:e}", c.tolerance),
                c.ties.to_string(),
                format!("{:.3}", c.ms),
                c.seed.to_string(),
                number(c.speed.map(|s| s.us)),
                number(c.speed.map(|s| s.gb_per_s)),
                number(c.speed.map(|s| s.gflop_per_s)),
                number(c.speed.map(|s| s.percent_of_copy)),
                number(c.speed.map(|s| s.percent_of_fma)),
                c.message.clone().unwrap_or_default(),
            ];
            out += &cells.map(|c| quoted(&c)).join(",");
            out.push('\n');
        }
        out
    }
}

fn skipped(status: Status) -> bool {
    matches!(status, Status::Skip | Status::ExpectedFail)
}

/// XML has no place for control characters, which a crash's message may have.
fn xml(text: &str) -> String {
    escape(&text.replace(|c: char| c.is_control(), " "))
}

fn testcase(c: &CaseRecord) -> String {
    let head = format!(
        "<testcase classname=\"{}.{}\" name=\"{}\" time=\"{:.3}\"",
        c.id.kernel,
        c.id.variant,
        c.id.case,
        c.ms / 1e3
    );
    let message = xml(c.message.as_deref().unwrap_or_default());
    match c.status {
        Status::Pass => format!("{head}/>\n"),
        s if skipped(s) => format!("{head}><skipped message=\"{s:?}: {message}\"/></testcase>\n"),
        s => format!("{head}><failure type=\"{s:?}\" message=\"{message}\">seed {}</failure></testcase>\n", c.seed),
    }
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}
