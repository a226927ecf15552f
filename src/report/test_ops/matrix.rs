//! The result file as one HTML page: kernels and variants down, cases across.

use super::{CaseRecord, ResultFile};
use crate::report::html::{escape, page};

const STYLE: &str = "<style>.c{display:inline-block;min-width:22px;margin:1px;padding:0 4px;border-radius:3px;color:#fff;font-size:12px;text-align:center}\
.Pass{background:#1a7f4b}.Fail,.Crash,.Timeout{background:#c62f2f}.Flake,.UnexpectedPass{background:#b35900}.Skip{background:#7b8494}.ExpectedFail{background:#6f54b5}\
td:nth-child(-n+3),th:nth-child(-n+3){text-align:left}td:nth-child(3){white-space:normal}</style>";

impl ResultFile {
    /// The whole page.
    #[must_use]
    pub fn html(&self) -> String {
        let a = &self.adapter;
        let counts: Vec<String> = self.counts().iter().map(|(s, n)| format!("{n} {s:?}")).collect();
        let rows: String = self.rows().iter().map(|(kernel, variant, cases)| row(kernel, variant, cases)).collect();
        let body = format!(
            "{STYLE}<h1>Kernels on {name}</h1>\n<p>{backend} · {driver} · vendor {vendor:#06x}, device {device:#06x}</p>\n\
             <p class=\"soft\">{counts}; seed {seed}; {seconds:.1} s; {tool}; {platform}; {time}.</p>\n\
             <p>{legend}</p>\n<div class=\"wide\"><table><thead><tr><th>Kernel</th><th>Variant</th><th>Cases</th><th>Worst NMSE</th></tr></thead>\
             <tbody>{rows}</tbody></table></div>\n{details}",
            name = escape(&a.name),
            backend = escape(&a.backend),
            driver = escape(&self.driver()),
            vendor = a.vendor,
            device = a.device,
            counts = counts.join(", "),
            seed = self.seed,
            seconds = self.seconds,
            tool = escape(&self.tool),
            platform = escape(&self.platform),
            time = escape(&self.time),
            legend = self.counts().keys().map(|s| format!("<span class=\"c {s:?}\">{s:?}</span>")).collect::<String>(),
            details = self.details(),
        );
        page(&format!("wgquant test-ops: {}", a.name), &body)
    }

    /// Cases that have something to say.
    fn details(&self) -> String {
        let told = self.cases.iter().filter(|c| c.message.is_some());
        let rows: String = told
            .map(|c| {
                let id = escape(&c.id.to_string());
                let message = escape(c.message.as_deref().unwrap_or_default());
                format!("<tr><td>{id}</td><td>{:?}</td><td>{message}</td></tr>\n", c.status)
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        format!(
            "<h2>What the cases say</h2><div class=\"wide\"><table><thead><tr><th>Case</th><th>Status</th><th>Message</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    }
}

fn row(kernel: &str, variant: &str, cases: &[&CaseRecord]) -> String {
    let worst = cases.iter().filter_map(|c| c.nmse).fold(0.0, f64::max);
    let worst = match worst {
        _ if cases.iter().all(|c| c.nmse.is_none()) => "none".to_owned(),
        0.0 => "exact".to_owned(),
        w => format!("{w:.1e}"),
    };
    let cells: String = cases.iter().map(|c| cell(c)).collect();
    format!("<tr><td>{kernel}</td><td>{variant}</td><td>{cells}</td><td>{worst}</td></tr>\n")
}

/// A letter as well as a colour: not everybody sees colours.
fn cell(c: &CaseRecord) -> String {
    let speed = c.speed.map_or_else(String::new, |s| {
        // Where the peaks are not known there is no share of them.
        let known = s.percent_of_copy > 0.0;
        let share = |percent: f64, of: &str| if known { format!(" ({percent:.1} % of {of})") } else { String::new() };
        let (copy, fma) = (share(s.percent_of_copy, "copy"), share(s.percent_of_fma, "FMA"));
        format!(", {:.1} us, {:.2} GB/s{copy}, {:.3} GFLOP/s{fma}", s.us, s.gb_per_s, s.gflop_per_s)
    });
    let nmse = c.nmse.map_or_else(String::new, |n| format!(", NMSE {n:.1e}"));
    let title = escape(&format!("{} ({}): {:?}{nmse}{speed}", c.id.case, c.params, c.status));
    let letter = format!("{:?}", c.status).chars().next().unwrap_or('?');
    format!("<span class=\"c {:?}\" title=\"{title}\">{letter}</span>", c.status)
}
