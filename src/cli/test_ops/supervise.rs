//! Runs a list of items in a child process that may crash or hang.
//!
//! The child first says that it is ready, then reads one item a line and answers each with one line. Its lines begin
//! with [`MARK`]; anything else on its stdout is a driver's chatter. When it dies or takes too long, that is the result
//! of the item it was given, and a new child goes on with the rest. [`RESTART`] after an answer asks for a new child. Where
//! no new child gets ready, that is how the rest ends.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Begins every line of the protocol.
pub(super) const MARK: &str = "@wgquant ";
/// The child's device is of no more use.
pub(super) const RESTART: &str = "restart";
/// A child that closed its output has this long to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How an item ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The child's answer.
    Answer(String),
    /// How the child died.
    Crash(String),
    /// Ended after this long.
    Timeout(Duration),
}

/// Gives each item to a child of `command` and its end, with the time it took, to `seen`. The result is what the first
/// child said when it was ready.
///
/// # Errors
/// When the first child does not start or dies before it is ready: that concerns no item.
pub(super) fn supervise(
    command: &dyn Fn() -> Result<Command>,
    items: &[String],
    timeout: Duration,
    seen: &mut dyn FnMut(usize, End, Duration),
) -> Result<String> {
    let (mut worker, ready) = Worker::start(command()?, timeout)?;
    let mut fresh = true;
    for (i, item) in items.iter().enumerate() {
        if !fresh {
            let start = || Worker::start(command()?, timeout);
            // A driver may need a moment after a crash.
            worker = match start().or_else(|_| start()) {
                Ok((worker, _)) => worker,
                Err(e) => {
                    (i..items.len()).for_each(|left| seen(left, End::Crash(format!("{e:#}")), Duration::ZERO));
                    return Ok(ready);
                }
            };
            fresh = true;
        }
        let start = Instant::now();
        let end = worker.ask(item, timeout);
        let time = start.elapsed();
        let answered = matches!(end, End::Answer(_));
        seen(i, end, time);
        if !answered || worker.restart {
            worker.end();
            fresh = false;
        }
    }
    worker.end();
    Ok(ready)
}

struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    complaint: Receiver<String>,
    restart: bool,
}

impl Worker {
    fn start(mut command: Command, timeout: Duration) -> Result<(Self, String)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting a process for the cases")?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("a process for the cases has no output");
        };
        let (send, lines) = channel();
        std::thread::spawn(move || {
            // Drivers may print bytes that are no text.
            let parts = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
            let mut marked = parts.filter_map(|l| Some(String::from_utf8_lossy(&l).strip_prefix(MARK)?.to_owned()));
            marked.try_for_each(|line| send.send(line)).ok();
        });
        let (tell, complaint) = channel();
        // The receiver may be gone.
        std::thread::spawn(move || tell.send(last_line(stderr)).ok());
        let stdin = child.stdin.take();
        let mut worker = Self { child, stdin, lines, complaint, restart: false };
        match worker.lines.recv_timeout(timeout) {
            Ok(ready) => Ok((worker, ready)),
            Err(RecvTimeoutError::Timeout) => {
                worker.end();
                bail!("opening the device took more than {timeout:?}")
            }
            Err(RecvTimeoutError::Disconnected) => {
                let words = worker.last_words();
                bail!("opening the device: {words}")
            }
        }
    }

    fn ask(&mut self, item: &str, timeout: Duration) -> End {
        // A child that does not read has died, which the answer shows.
        let _ = self.stdin.as_mut().map(|s| writeln!(s, "{item}").and_then(|()| s.flush()));
        match self.lines.recv_timeout(timeout) {
            Ok(line) => match line.strip_prefix(RESTART) {
                Some(answer) => {
                    self.restart = true;
                    End::Answer(answer.trim_start().to_owned())
                }
                None => End::Answer(line),
            },
            Err(RecvTimeoutError::Timeout) => End::Timeout(timeout),
            Err(RecvTimeoutError::Disconnected) => End::Crash(self.last_words()),
        }
    }

    /// How it ended and the last line it wrote to stderr; of an error of this program that line alone.
    fn last_words(&mut self) -> String {
        let start = Instant::now();
        let (status, error) = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break (status.to_string(), status.code() == Some(2)),
                Ok(None) if start.elapsed() < LAST_WORDS => std::thread::sleep(Duration::from_millis(5)),
                _ => break ("closed its output and went on".to_owned(), false),
            }
        };
        let complaint = self.complaint.recv_timeout(LAST_WORDS).unwrap_or_default();
        match complaint.strip_prefix("wgquant: ") {
            Some(words) if error => words.to_owned(),
            _ if complaint.is_empty() => status,
            words => format!("{} ({status})", words.unwrap_or(&complaint)),
        }
    }

    /// Ends the process: at once when it hangs, or it would live on.
    fn end(&mut self) {
        drop(self.stdin.take());
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last line that says something; a panic's first is better than its hint at backtraces.
fn last_line(mut from: impl Read) -> String {
    let mut all = Vec::new();
    // What was read before an error is as good.
    let _ = from.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let hint = |l: &&str| !l.trim().is_empty() && !l.starts_with("note: ");
    text.lines().rfind(hint).unwrap_or_default().trim().to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn run(script: &str, items: &[&str], millis: u64) -> (Result<String>, Vec<End>) {
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Ok(command)
        };
        let items: Vec<String> = items.iter().map(|i| (*i).to_owned()).collect();
        let mut ends = Vec::new();
        let ready = supervise(&command, &items, Duration::from_millis(millis), &mut |i, end, _| {
            assert_eq!(i, ends.len());
            ends.push(end);
        });
        (ready, ends)
    }

    const SCRIPT: &str = "echo driver chatter; echo '@wgquant ready'; while read -r item; do case $item in \
        crash) echo 'lost it' >&2; kill -SEGV $$;; leave) exit 3;; hang) exec sleep 60;; \
        last) echo '@wgquant restart last of '$$;; *) echo more chatter; echo \"@wgquant did $item\";; esac; done";

    #[test]
    fn a_crash_is_the_result_of_its_item_and_the_rest_goes_on() {
        let (ready, ends) = run(SCRIPT, &["a", "crash", "b", "leave", "c"], 20_000);
        assert_eq!(ready.unwrap(), "ready");
        assert_eq!(ends[0], End::Answer("did a".to_owned()));
        let End::Crash(message) = &ends[1] else { panic!("{ends:?}") };
        assert!(message.contains("lost it") && message.contains("SIGSEGV"), "{message}");
        assert_eq!(ends[2], End::Answer("did b".to_owned()));
        assert!(matches!(&ends[3], End::Crash(m) if m.contains("exit status: 3")), "{ends:?}");
        assert_eq!(ends[4], End::Answer("did c".to_owned()));
    }

    #[test]
    fn a_hang_is_ended() {
        let start = Instant::now();
        let (_, ends) = run(SCRIPT, &["hang", "a"], 3000);
        assert_eq!(ends, [End::Timeout(Duration::from_secs(3)), End::Answer("did a".to_owned())]);
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_child_may_ask_for_another() {
        let (_, ends) = run(SCRIPT, &["last", "last"], 20_000);
        assert!(ends[0] != ends[1], "one process answered both: {ends:?}");
        assert!(matches!(&ends[0], End::Answer(a) if a.starts_with("last of ")), "{ends:?}");
    }

    /// One that does not get ready is started once more; then what is left has crashed, and what was seen stays.
    #[test]
    fn what_no_child_is_left_for_has_crashed() {
        let temp = tempfile::tempdir().unwrap();
        for (refusals, crashed) in [(1, 1), (2, 3)] {
            let file = temp.path().join(refusals.to_string());
            let script = format!(
                "f='{}'; n=$(cat \"$f\" 2>/dev/null || echo none); if [ $n != none ] && [ $n -gt 0 ]; then \
                 echo $((n - 1)) > \"$f\"; echo 'wgquant: no adapter' >&2; exit 2; fi; echo '@wgquant ready'; \
                 while read -r item; do if [ $item = crash ]; then echo {refusals} > \"$f\"; kill -SEGV $$; fi; \
                 echo \"@wgquant did $item\"; done",
                file.display()
            );
            let (ready, ends) = run(&script, &["a", "crash", "b", "c"], 20_000);
            assert_eq!(ready.unwrap(), "ready");
            assert_eq!((ends.len(), &ends[0]), (4, &End::Answer("did a".to_owned())));
            assert_eq!(ends.iter().filter(|e| matches!(e, End::Crash(_))).count(), crashed, "{ends:?}");
            match &ends[3] {
                End::Answer(text) => assert_eq!((refusals, text.as_str()), (1, "did c")),
                other => assert_eq!(*other, End::Crash("opening the device: no adapter".to_owned())),
            }
        }
    }

    #[test]
    fn a_child_that_never_gets_ready_is_an_error() {
        let error = run("echo 'wgquant: no adapter' >&2; exit 2", &["a"], 20_000).0.unwrap_err();
        assert_eq!(error.to_string(), "opening the device: no adapter");
        let error = run("echo 'no such library' >&2; exit 127", &["a"], 20_000).0.unwrap_err();
        assert_eq!(error.to_string(), "opening the device: no such library (exit status: 127)");
        let error = run("exec sleep 60", &["a"], 300).0.unwrap_err();
        assert!(error.to_string().contains("took more than 300ms"), "{error}");
    }
}
