//! `bind IN.wasm DIR` makes the JavaScript beside the wasm; `serve DIR [PORT] [RESULT]` serves DIR on localhost.
//! Given RESULT, it writes there what the page posts to /result, and ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// No result file comes near this.
const MOST_POSTED: usize = 64 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = match words[..] {
        ["bind", wasm, dir] => bind(wasm, dir),
        ["serve", dir] => serve(dir, "8123", None),
        ["serve", dir, port] => serve(dir, port, None),
        ["serve", dir, port, result] => serve(dir, port, Some(PathBuf::from(result))),
        _ => Err("usage: bind IN.wasm DIR | serve DIR [PORT] [RESULT]".into()),
    };
    if let Err(e) = ran {
        eprintln!("browser tool: {e}");
        std::process::exit(2);
    }
}

/// The work of `wasm-bindgen --target web --no-typescript`.
fn bind(wasm: &str, dir: &str) -> Result<()> {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    let made = bindgen.input_path(wasm).web(true).and_then(|b| b.typescript(false).generate(dir));
    made.map_err(|e| format!("{wasm}: {e:#}").into())
}

fn serve(dir: &str, port: &str, result: Option<PathBuf>) -> Result<()> {
    let root: Arc<Path> = fs::canonicalize(dir).map_err(|e| format!("{dir}: {e}"))?.into();
    let address = format!("127.0.0.1:{port}");
    let listener = TcpListener::bind(&address).map_err(|e| format!("{address}: {e}"))?;
    // A browser gives WebGPU to localhost, as to https.
    eprintln!("open http://localhost:{port}/ in a browser with WebGPU; Ctrl-C ends");
    for stream in listener.incoming() {
        let (root, result) = (root.clone(), result.clone());
        // A connection that a browser opens ahead and leaves idle must not block the others.
        std::thread::spawn(move || {
            if let Err(e) = stream.map_err(Into::into).and_then(|s| answer(s, &root, result.as_deref())) {
                eprintln!("browser tool: {e}");
            }
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream, root: &Path, result: Option<&Path>) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let words: Vec<&str> = request.split_whitespace().collect();
    match words[..] {
        ["GET", target, _] => match file(root, target) {
            Some((path, bytes)) => reply(&mut stream, "200 OK", kind(&path), &bytes),
            None => reply(&mut stream, "404 Not Found", "text/plain", b"not found\n"),
        },
        ["POST", "/result", _] if result.is_some() && length <= MOST_POSTED => {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            reply(&mut stream, "200 OK", "text/plain", b"")?;
            fs::write(result.unwrap_or(Path::new("result")), body)?;
            std::process::exit(0);
        }
        [] => Ok(()),
        _ => reply(&mut stream, "400 Bad Request", "text/plain", b"bad request\n"),
    }
}

/// A file of `root` itself or below; nothing outside.
fn file(root: &Path, target: &str) -> Option<(PathBuf, Vec<u8>)> {
    let name = target.split(['?', '#']).next()?.trim_start_matches('/');
    let name = Path::new(if name.is_empty() { "index.html" } else { name });
    let plain = name.components().all(|c| matches!(c, Component::Normal(_)));
    let path = plain.then(|| root.join(name))?;
    fs::read(&path).ok().map(|bytes| (path, bytes))
}

fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}

fn reply(stream: &mut TcpStream, status: &str, kind: &str, body: &[u8]) -> Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)?;
    Ok(())
}
