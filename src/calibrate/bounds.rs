//! What a template may do with values, as it is a program from a stranger's file: what prints, compares or drops a value goes down to all
//! that is in it.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use regex::Regex;

/// Lists and dicts that lie in each other, at most, where a value is kept in a namespace, printed or written as JSON. Conversations are
/// JSON of fewer levels than 128.
const LEVELS: usize = 128;
/// Values that are looked at for a step of the template.
const A_STEP: usize = 8;
/// Name of the filter that values pass on their way to a namespace.
const KEPT: &str = "kept_in_a_namespace";

/// Bounds what templates of `environment` print, and keep where they are [`guarded`].
pub(super) fn set(environment: &mut Environment<'_>) {
    environment.set_formatter(print);
    environment.add_filter(KEPT, kept);
    // Both set each level in by its depth, and no published template has them.
    environment.remove_filter("pprint");
    environment.remove_global("debug");
}

/// The template with a filter behind each value that it assigns to a name with a dot, which is a namespace's. Loops make values deep, and a
/// namespace a part of itself, in this way only.
///
/// # Errors
/// What an assignment is written in a way that cannot be told from others.
pub(super) fn guarded(source: &str) -> Result<String, String> {
    let tag = Regex::new(r"\{%[-+]?\s*set\b").map_err(|e| e.to_string())?;
    let (mut out, mut done) = (String::with_capacity(source.len()), 0);
    // Also those in comments and strings, where a filter does nothing: so none is missed, whatever comes before it.
    for found in tag.find_iter(source) {
        let rest = &source[found.end()..];
        let target = &rest[..rest.find(['=', '|', '%']).unwrap_or(rest.len())];
        let what = &rest[target.len()..];
        if !target.contains('.') {
            continue;
        }
        if what.starts_with('|') {
            return Err(format!("`set{target}|`: a filter on what goes to a namespace"));
        }
        let Some(value) = what.strip_prefix('=') else { continue };
        let length = length(value);
        if tag.is_match(&value[..length.unwrap_or(value.len())]) {
            return Err(format!("`set{target}=`: has a value with a tag in it"));
        }
        // Without an end it is no tag.
        let Some(length) = length else { continue };
        let begin = found.end() + target.len() + 1;
        out += &source[done..begin];
        out += &format!(" ({}) | {KEPT} ", &value[..length]);
        done = begin + length;
    }
    Ok(out + &source[done..])
}

/// Bytes of an expression up to the end of its tag, if there is one.
fn length(value: &str) -> Option<usize> {
    let bytes = value.as_bytes();
    let (mut quote, mut at) = (None, 0);
    while let Some(byte) = bytes.get(at) {
        match (quote, byte) {
            (Some(_), b'\\') => at += 1,
            (Some(open), _) => quote = (open != *byte).then_some(open),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (None, b'%') if bytes.get(at + 1) == Some(&b'}') => {
                let control = matches!(bytes[..at].last(), Some(b'-' | b'+'));
                return Some(at - usize::from(control));
            }
            (None, _) => {}
        }
        at += 1;
    }
    None
}

/// The filter [`KEPT`]. What is in a namespace holds no namespace, so none holds itself.
fn kept(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    check(state, &value, |inside| {
        let namespace = inside.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"));
        namespace.then_some("a namespace in a namespace")
    })?;
    Ok(value)
}

/// Prints a value that may be printed.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    check(state, value, |_| None)?;
    escape_formatter(out, state, value)
}

/// Refuses a value that is too deep, or has more in it than there are steps left for, or something for which `wrong` has a word.
pub(super) fn check(
    state: &State<'_, '_>,
    value: &Value,
    wrong: impl Fn(&Value) -> Option<&'static str>,
) -> Result<(), Error> {
    let refuse = |what: String| Err(Error::new(ErrorKind::InvalidOperation, what));
    let only: Inside = Box::new(std::iter::once(value.clone()));
    let (mut levels, mut seen) = (vec![only], 0);
    while let Some(level) = levels.last_mut() {
        let Some(value) = level.next() else {
            levels.pop();
            continue;
        };
        seen += 1;
        if seen % A_STEP == 0 {
            state.consume_fuel(1)?;
        }
        if let Some(what) = wrong(&value) {
            return refuse(what.to_owned());
        }
        if value.as_object().is_some() {
            if levels.len() > LEVELS {
                return refuse(format!("a value of more than {LEVELS} levels"));
            }
            levels.push(inside(value));
        }
    }
    Ok(())
}

type Inside = Box<dyn Iterator<Item = Value>>;

/// What is in a value, one after the other, since there may be more than fits in memory: of dicts, the keys too.
fn inside(value: Value) -> Inside {
    let items = value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Map => Box::new(items.flat_map(move |key| [value.get_item(&key).unwrap_or_default(), key])),
        _ => Box::new(items),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Renders in an environment as chat templates have it.
    fn render(source: &str) -> Result<String, String> {
        let mut environment = Environment::new();
        set(&mut environment);
        environment.set_fuel(Some(100_000));
        environment.add_filter("tojson", super::super::dumps::tojson);
        let guarded = guarded(source)?;
        environment.render_str(&guarded, ()).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn assignments_to_namespaces_are_guarded_wherever_they_are() {
        for (tag, want) in [
            (r#"{%- set ns.x = 'a' ~ "%}" -%}"#, "a%}"),
            ("{%set ns.x=1,2%}", "(1, 2)"),
            ("{% set ns.x = [1] if ns.x == 1 else [2] +%}", "[1]"),
            (r"{% set ns.x = 'it\'s' | upper %}", "IT'S"),
            ("{% set ns.x %}a{% endset %}", "a"),
            ("{# {% set ns.x = 2 %} #}{% set ns . x = nothing is defined %}", "False"),
        ] {
            let template = format!("{{% set ns = namespace(x=1) %}}{tag}{{{{ ns.x }}}}");
            assert_eq!(render(&template).unwrap(), want, "{tag}");
        }
        assert_eq!(guarded("{% set a = b.c %}{{ a.b }}").unwrap(), "{% set a = b.c %}{{ a.b }}");
        assert!(guarded("{% set ns.x | default(ns, true) %}{% endset %}").unwrap_err().contains("a filter on what"));
    }

    /// To print or compare one that holds itself never ends, and overflowed the stack.
    #[test]
    fn no_namespace_holds_itself() {
        for cycle in [
            "{% set ns.x = ns %}",
            "{% set ns.x = [{'a': [ns]}] %}",
            "{% set ns.x = {ns: 1} %}",
            "{%- set(ns.x) = ns -%}",
            "{% set a, ns.x = 1, ns %}",
            "{% set o = namespace(x=ns) %}{% set ns.x = o %}",
            "{# {% set a.b = \" #}{% set ns.x = ns %}{# \" %} #}",
        ] {
            let error = render(&format!("{{% set ns = namespace() %}}{cycle}{{{{ ns ~ '' }}}}")).unwrap_err();
            let words = ["a namespace in a namespace", "a tag in it"];
            assert!(words.iter().any(|word| error.contains(word)), "{cycle}: {error}");
        }
    }

    /// Each took minutes, and as much memory as there is.
    #[test]
    fn what_grows_without_end_is_stopped() {
        let start = Instant::now();
        let grown = |deeper: &str, then: &str| {
            render(&format!(
                "{{% set ns = namespace(x=1) %}}{{% for i in range(200) %}}{{% set ns.x = {deeper} %}}{{% endfor %}}{{{{ {then} }}}}"
            ))
            .unwrap_err()
        };
        assert!(grown("[ns.x]", "1").contains("more than 128 levels"));
        assert!(grown("{'a': ns.x}", "1").contains("more than 128 levels"));
        // As many as there are twice, a list in it.
        assert!(grown("[ns.x, ns.x]", "1").contains("fuel"));
        let twice = "{% set x = [1] %}".to_owned() + &"{% set x = [x, x] %}".repeat(60);
        let deep = "{% set x = 1 %}".to_owned() + &"{% set x = [x] %}".repeat(200);
        for then in ["{{ x }}", "{{ x | tojson }}", "{{ x | tojson(indent=2) }}"] {
            assert!(render(&format!("{twice}{then}")).unwrap_err().contains("fuel"), "{then}");
            assert!(render(&format!("{deep}{then}")).unwrap_err().contains("more than 128 levels"), "{then}");
        }
        assert!(render("{{ [1] | pprint }}").unwrap_err().contains("pprint"));
        assert!(render("{{ debug() }}").unwrap_err().contains("debug"));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
