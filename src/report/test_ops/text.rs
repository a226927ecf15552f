//! The result file as text.

use serde_json::Value;

use super::ResultFile;

impl ResultFile {
    /// JSON with a line for each shader, case and model: small, and two versions of it compare line by line.
    ///
    /// # Errors
    /// Of serde_json; plain data gives none.
    pub fn json(&self) -> serde_json::Result<String> {
        let value = serde_json::to_value(self)?;
        let fields: Vec<String> = value.as_object().into_iter().flatten().map(|(key, v)| field(key, v)).collect();
        Ok(format!("{{\n{}\n}}\n", fields.join(",\n")))
    }
}

fn field(key: &str, value: &Value) -> String {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let lines: Vec<String> = items.iter().map(|i| format!("    {i}")).collect();
            format!("  \"{key}\": [\n{}\n  ]", lines.join(",\n"))
        }
        other => format!("  \"{key}\": {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::report::test_ops::{CaseId, CaseRecord, Status};

    #[test]
    fn a_case_is_a_line_and_the_text_reads_back() {
        let mut file = ResultFile::new(&Device::Cpu, "test", 7);
        for case in ["a", "b \"quoted\"\nline"] {
            let id = CaseId { kernel: "argmax".to_owned(), case: case.to_owned(), variant: "best".to_owned() };
            file.cases.push(CaseRecord::new(id, String::new(), 7, Status::Fail, Some("x\ny".to_owned())));
        }
        let text = file.json().unwrap();
        assert_eq!(text.lines().filter(|l| l.contains("\"kernel\":\"argmax\"")).count(), 2, "{text}");
        let back: ResultFile = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&back).unwrap(), serde_json::to_value(&file).unwrap());
    }
}
