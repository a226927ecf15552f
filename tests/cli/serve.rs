//! `wgquant serve`, over real sockets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bad_models::damage;
use crate::common::{copy, nano, program, refusal, run_json, wgquant};

/// A server, which ends with this.
struct Server {
    child: Child,
    address: String,
    model: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts one on a port of its own; `--json` tells when it answers.
    fn start(model: &Path, args: &[&str]) -> Self {
        let mut command = program();
        command.args(["serve", model.to_str().unwrap(), "--port", "0", "--json", "--context", "96"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let serving: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: `{line}`"));
        assert_eq!(serving["context"], 96);
        let address = serving["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, address, model: serving["model"].as_str().unwrap().to_owned() }
    }

    /// Sends a request; gives status and body. HTTP 1.0 answers without chunks, and ends the connection.
    fn send(&self, method: &str, path: &str, header: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n{header}\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // A body that is too large is not read to its end.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{path}: `{answer}`"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send("GET", path, "", b"")
    }

    /// Waits until nothing goes on; gives the metrics.
    fn idle(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (status, metrics) = self.get("/metrics");
            assert_eq!(status, 200);
            if metrics.contains("\nwgquant_sequences_running 0\n") {
                return metrics;
            }
            assert!(Instant::now() < deadline, "{metrics}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Posts JSON, which must be answered with JSON.
    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, answer) = self.send("POST", path, "", body.to_string().as_bytes());
        (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}")))
    }

    #[track_caller]
    fn complete(&self, body: &Value) -> Value {
        let (status, answer) = self.post("/v1/completions", body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The message of a request that must be refused as its own fault.
    #[track_caller]
    fn refused(&self, path: &str, body: &Value) -> String {
        let (status, answer) = self.post(path, body);
        let error = &answer["error"];
        assert_eq!((status, &error["type"], &error["code"]), (400, &"invalid_request_error".into(), &400.into()));
        let message = error["message"].as_str().unwrap();
        let named = message.strip_prefix('`').and_then(|rest| rest.split_once("`: "));
        assert_eq!(error["param"].as_str(), named.map(|(name, _)| name), "{message}");
        message.to_owned()
    }

    /// Parts of a stream, without its end.
    #[track_caller]
    fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, answer) = self.send("POST", path, "", body.to_string().as_bytes());
        assert_eq!(status, 200, "{answer}");
        let mut parts: Vec<&str> = answer.split("\n\n").filter(|part| !part.is_empty()).collect();
        assert_eq!(parts.pop(), Some("data: [DONE]"), "{answer}");
        let json = |part: &str| serde_json::from_str(part.strip_prefix("data: ").unwrap()).unwrap();
        parts.into_iter().map(json).collect()
    }
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

const SEA: &str = "The little boat went out to sea, and";

#[test]
fn completions_are_what_generate_says() {
    let server = Server::start(&nano(), &["--device", "cpu", "--parallel", "2"]);
    assert_eq!(server.model, "nano");
    assert_eq!(server.get("/health"), (200, json!({ "status": "ok" }).to_string()));
    let generate = |more: &[&str]| {
        let nano = nano();
        let args = ["generate", nano.to_str().unwrap(), "-p", SEA, "-n", "9", "--device", "cpu", "--json"];
        run_json(&[&args[..], more].concat())["text"].as_str().unwrap().to_owned()
    };
    let asked = json!({ "prompt": SEA, "max_tokens": 9, "temperature": 0 });
    let answer = server.complete(&asked);
    let greedy = generate(&[]);
    assert_eq!(text(&answer), greedy);
    assert_eq!((&answer["object"], &answer["model"]), (&"text_completion".into(), &"nano".into()));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&12.into(), &9.into(), &21.into())
    );

    // Draws go by the seed, the second answer's by the next one, and beside each other as alone.
    let drawn =
        json!({ "prompt": SEA, "max_tokens": 9, "temperature": 0.9, "top_k": 30, "top_p": 0.9, "seed": 7, "n": 2 });
    let answer = server.complete(&drawn);
    for (i, seed) in ["7", "8"].into_iter().enumerate() {
        let want = generate(&["--temp", "0.9", "--top-k", "30", "--top-p", "0.9", "--seed", seed]);
        assert_eq!((&answer["choices"][i]["text"], &answer["choices"][i]["index"]), (&want.into(), &i.into()));
    }

    // A stream is the same in parts.
    let mut streamed = asked.clone();
    (streamed["stream"], streamed["stream_options"]) = (true.into(), json!({ "include_usage": true }));
    let parts = server.stream("/v1/completions", &streamed);
    let (tokens, parts) = parts.split_last().unwrap();
    assert_eq!((&tokens["usage"], &tokens["choices"]), (usage, &json!([])));
    assert_eq!(parts.iter().map(text).collect::<String>(), greedy);
    assert!(parts.len() > 4, "{parts:?}");
    let reasons: Vec<&Value> = parts.iter().map(|part| &part["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_null()).collect::<Vec<_>>(), [&"length"]);

    // It stops before a text, also one that begins within a token.
    let (before, _) = greedy.split_once("ttle").unwrap();
    let mut stopped = asked.clone();
    stopped["stop"] = json!(["never", "ttle"]);
    let answer = server.complete(&stopped);
    assert_eq!((text(&answer), &answer["choices"][0]["finish_reason"]), (before, &"stop".into()));

    let metrics = server.idle();
    assert!(metrics.contains("\nwgquant_sequences_total 5\n"), "{metrics}");
    // A prompt counts once, however many answers it has.
    assert!(metrics.contains("\nwgquant_prompt_tokens_total 48\n"), "{metrics}");
}

/// A prompt that begins with one before is read from there on.
#[test]
fn what_was_read_is_not_read_again() {
    let server = Server::start(&nano(), &["--device", "cpu", "--prompt-cache", "2"]);
    let ids: Vec<u32> = (0..40).map(|i| 3 + i * i % 900).collect();
    let ask = |ids: &[u32]| json!({ "prompt": ids, "max_tokens": 4, "temperature": 0, "n": 2 });
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    let first = server.complete(&ask(&ids));
    let again = server.complete(&ask(&ids));
    // Tokens of a prompt count once, as do those that were kept.
    assert_eq!((cached(&first), cached(&again), &again["usage"]["prompt_tokens"]), (0, 40, &40.into()));
    assert_eq!(first["choices"], again["choices"]);
    let longer = server.complete(&ask(&[&ids[..], &[5, 6, 7]].concat()));
    assert_eq!(cached(&longer), 40);
    let mut anew = ask(&ids);
    anew["cache_prompt"] = false.into();
    let anew = server.complete(&anew);
    assert_eq!((cached(&anew), &anew["choices"]), (0, &first["choices"]));
    let metrics = server.idle();
    assert!(metrics.contains("\nwgquant_cached_prompt_tokens_total 80\n"), "{metrics}");

    let server = Server::start(&nano(), &["--device", "cpu", "--prompt-cache", "0"]);
    assert_eq!([0; 2].map(|_| cached(&server.complete(&ask(&ids)))), [0; 2]);
}

/// As lm-evaluation-harness asks: token ids, log-probabilities of the prompt and the likeliest beside them.
#[test]
fn prompts_have_log_probabilities() {
    let server = Server::start(&nano(), &["--alias", "small one"]);
    let ids = json!([[1, 270, 1002, 5], [1, 9]]);
    let answer =
        server.complete(&json!({ "prompt": ids, "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1 }));
    assert_eq!(answer["model"], "small one");
    for (choice, count) in answer["choices"].as_array().unwrap().iter().zip([5, 3]) {
        let said = &choice["logprobs"];
        let list = |key: &str| said[key].as_array().unwrap().clone();
        for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(list(key).len(), count, "{key}");
        }
        assert!(list("token_logprobs")[0].is_null() && list("top_logprobs")[0].is_null());
        for (value, top) in list("token_logprobs").iter().zip(&list("top_logprobs")).skip(1) {
            let best = top.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).fold(f64::MIN, f64::max);
            assert!(value.as_f64().unwrap() <= best && best < 0.0, "{value} and {top}");
        }
        // Each token is where it says in the text, but for BOS, which has none.
        let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        for (token, offset) in list("tokens").iter().zip(&list("text_offset")).skip(1) {
            let rest: String = text[offset.as_u64().unwrap() as usize..].iter().collect();
            assert!(rest.starts_with(token.as_str().unwrap()), "{token} at {offset} of {text:?}");
        }
        // What was chosen is the likeliest.
        let (last, top) = (list("token_logprobs")[count - 1].clone(), list("top_logprobs")[count - 1].clone());
        assert_eq!(top.as_object().unwrap().values().collect::<Vec<_>>(), [&last]);
        // Names of special tokens are no part of the text.
        assert_eq!(list("tokens")[0], "<s>");
        assert_eq!(
            list("tokens")[1..].iter().map(|t| t.as_str().unwrap()).collect::<String>(),
            choice["text"].as_str().unwrap()
        );
    }
    assert_eq!(server.get("/v1/models/small%20one").0, 200);
    assert_eq!(server.get("/v1/models/nano").0, 404);
    // The prompt alone.
    let answer = server.complete(&json!({ "prompt": "A man", "max_tokens": 0, "echo": true }));
    assert_eq!((text(&answer), &answer["usage"]["completion_tokens"]), ("A man", &0.into()));
}

/// lm-evaluation-harness takes the last token for one that it did not ask about, so there must be one also where the model ends there.
#[test]
fn a_token_that_ends_an_answer_counts() {
    let (_temp, dir) = copy();
    let ids = [1, 270, 1002, 5];
    let asked = json!({ "prompt": ids, "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1 });
    let server = Server::start(&dir, &["--device", "cpu"]);
    let goes_on = server.complete(&asked);
    let tokenizer = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let told = |answer: &Value| answer["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().clone();
    let next = goes_on["choices"][0]["logprobs"]["tokens"][4].as_str().unwrap();
    let next = tokenizer.encode(next, false).unwrap().get_ids().to_vec();
    assert_eq!(next.len(), 1);
    fs::write(dir.join("generation_config.json"), json!({ "eos_token_id": [2, next[0]] }).to_string()).unwrap();
    let server = Server::start(&dir, &["--device", "cpu"]);
    let ends = server.complete(&asked);
    assert_eq!(told(&ends), told(&goes_on));
    let choice = &ends["choices"][0];
    assert_eq!((&choice["finish_reason"], &ends["usage"]["completion_tokens"]), (&"stop".into(), &1.into()));
    assert_eq!(text(&ends), tokenizer.decode(&ids, true).unwrap());
}

#[test]
fn chats_go_by_the_template() {
    let (_temp, dir) = copy();
    let template = "<s>{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                    {% if tools %}{{ tools | length }} tools\n{% endif %}{% if add_generation_prompt %}assistant:{% endif %}";
    fs::write(dir.join("chat_template.jinja"), template).unwrap();
    let server = Server::start(&dir, &["--device", "cpu", "--api-key", "sesame"]);
    let chat = "/v1/chat/completions";
    let key = "Authorization: Bearer sesame\r\n";
    let ask = |body: &Value, header: &str| {
        let (status, answer) = server.send("POST", chat, header, body.to_string().as_bytes());
        (status, serde_json::from_str::<Value>(&answer).unwrap_or_default())
    };
    let parts = json!([{ "type": "text", "text": "Tell me " }, { "type": "text", "text": "of the sea." }]);
    let asked = json!({
        "messages": [{ "role": "system", "content": "Be kind." }, { "role": "user", "content": parts }],
        "tools": [{ "type": "function" }], "max_completion_tokens": 7, "temperature": 0, "logprobs": true, "top_logprobs": 2,
    });
    let (status, answer) = ask(&asked, key);
    assert_eq!(status, 200, "{answer}");
    let message = &answer["choices"][0]["message"];
    assert_eq!((&answer["object"], &message["role"]), (&"chat.completion".into(), &"assistant".into()));
    let prompt = "<s>system: Be kind.\nuser: Tell me of the sea.\n1 tools\nassistant:";
    let plain = json!({ "prompt": prompt, "max_tokens": 7, "temperature": 0 });
    let (_, same) = server.send("POST", "/v1/completions", key, plain.to_string().as_bytes());
    let same: Value = serde_json::from_str(&same).unwrap();
    assert_eq!(message["content"], same["choices"][0]["text"]);
    assert_eq!(answer["usage"], same["usage"]);
    let said = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(said.len(), 7);
    for token in said {
        assert_eq!(token["token"].as_str().unwrap().len(), token["bytes"].as_array().unwrap().len());
        assert_eq!(
            (&token["logprob"], token["top_logprobs"].as_array().unwrap().len()),
            (&token["top_logprobs"][0]["logprob"], 2)
        );
    }
    // Arguments of a call are JSON in a string, and templates write what that says.
    fs::write(dir.join("chat_template.jinja"), "{{ messages[0].tool_calls[0].function.arguments | tojson }}").unwrap();
    let calls = Server::start(&dir, &["--device", "cpu"]);
    let tokens = |arguments: Value| {
        let call = json!({ "type": "function", "function": { "name": "f", "arguments": arguments } });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let (status, answer) = calls.post(chat, &json!({ "messages": [message], "max_tokens": 1 }));
        assert_eq!(status, 200, "{answer}");
        answer["usage"]["prompt_tokens"].clone()
    };
    assert_eq!(tokens(json!(r#"{"a":1,"b":[2]}"#)), tokens(json!({ "a": 1, "b": [2] })));
    // Without a word on it, as much as the context holds.
    let (_, answer) = ask(&json!({ "messages": [{ "role": "user", "content": "x" }], "temperature": 0 }), key);
    let (usage, reason) = (&answer["usage"], &answer["choices"][0]["finish_reason"]);
    assert!(usage["total_tokens"] == 96 || reason == "stop", "{answer}");

    let (status, answer) = server.send(
        "POST",
        chat,
        key,
        json!({
            "messages": [{ "role": "user", "content": "x" }], "max_tokens": 3, "stream": true,
        })
        .to_string()
        .as_bytes(),
    );
    assert_eq!(status, 200);
    assert!(
        answer.starts_with("data: {") && answer.contains(r#""delta":{"role":"assistant","content":""}"#),
        "{answer}"
    );
    assert!(answer.ends_with("data: [DONE]\n\n"), "{answer}");

    for wrong in ["", "Authorization: Bearer open\r\n", "Authorization: sesame\r\n"] {
        assert_eq!(ask(&asked, wrong).0, 401, "{wrong}");
    }
    assert_eq!(ask(&asked, "Authorization: bearer  sesame\r\n").0, 200);
    assert_eq!(server.get("/v1/models").0, 401);
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let server = Server::start(&nano(), &["--device", "cpu"]);
    let path = "/v1/completions";
    let wrong = [
        (json!({}), "`prompt`: is missing"),
        (json!({ "prompt": [] }), "`prompt`: is an empty list"),
        (json!({ "prompt": [[]] }), "`prompt`: is empty"),
        (json!({ "prompt": { "a": 1 } }), "`prompt`: expected a string, a list of token ids"),
        (json!({ "prompt": [3, 2048] }), "`prompt`: token id 2048 in a vocabulary of 2048"),
        (json!({ "prompt": [3], "max_tokens": 96 }), "`prompt`: 1 tokens and up to 96 new ones in a context of 96"),
        (json!({ "prompt": "x", "max_tokens": -1 }), "`max_tokens`: invalid value: integer `-1`"),
        (json!({ "prompt": "x", "temperature": "hot" }), "`temperature`: invalid type: string \"hot\""),
        (json!({ "prompt": "x", "temperature": -1 }), "`temperature`: -1 is no finite number"),
        (json!({ "prompt": "x", "top_p": 0 }), "`top_p`: 0 is not above 0"),
        (json!({ "prompt": "x", "logprobs": 21 }), "`logprobs`: 21, at most 20"),
        (json!({ "prompt": "x", "n": 0 }), "`n`: 0 answers to each of 1 prompts"),
        (json!({ "prompt": ["x", "y"], "n": 513 }), "`n`: 513 answers to each of 2 prompts"),
        (json!({ "prompt": "x", "stop": ["a", ""] }), "`stop`: is empty"),
        (json!({ "prompt": "x", "frequency_penalty": 0.5 }), "`frequency_penalty`: 0.5 is not supported"),
        (json!({ "prompt": "x", "logit_bias": { "5": 1 } }), "`logit_bias`: {\"5\":1} is not supported"),
        (json!({ "prompt": "x", "stop": "y".repeat(1025) }), "`stop`: 1 texts of up to 1025 bytes"),
        (json!({ "prompt": "x", "stop_token_ids": [5] }), "`stop_token_ids`: [5] is not supported"),
        (json!({ "prompt": "x", "ignore_eos": true }), "`ignore_eos`: true is not supported"),
        (json!({ "prompt": "x", "top_k": -2 }), "`top_k`: -2 is no number of tokens"),
        (json!({ "prompt": "x ".repeat(2 << 20) }), "`prompt`: 4194304 bytes, and a context of 96 tokens holds"),
        (json!([]), "the request is no JSON object"),
    ];
    for (body, message) in wrong {
        let said = server.refused(path, &body);
        assert!(said.starts_with(message), "{body}: {said}, expected {message}");
    }
    // What changes nothing is no fault, and names that are not known are left alone.
    let all = json!({ "prompt": [3], "max_tokens": 1, "frequency_penalty": 0, "logit_bias": {}, "best_of": 1, "user": "me", "stop": null, "top_k": -1, "ignore_eos": false });
    server.complete(&all);
    // Where nothing is said, no more than there is room for.
    let answer = server.complete(&json!({ "prompt": vec![7; 90], "temperature": 0 }));
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    assert!(server.refused("/v1/chat/completions", &json!({ "messages": [] })).contains("has no chat template"));
    assert!(server.send("POST", path, "", b"{").1.contains("the request is no JSON"));
    assert_eq!(server.get(path).0, 405);
    assert_eq!(server.get("/v2").0, 404);
    assert_eq!(server.send("POST", path, "", &vec![b' '; (32 << 20) + 1]).0, 413);
}

/// The oldest tap of a convolution overflows, which the fourth token is the first to see: it is chosen of numbers, and what follows is not.
#[test]
fn an_answer_that_overflows_ends_in_an_error() {
    let (_temp, dir) = copy();
    damage(&dir, "backbone.layers.0.mixer.conv1d.weight", |bytes| {
        bytes.chunks_mut(8).for_each(|taps| taps[..2].fill(0x7f));
    });
    let server = Server::start(&dir, &["--device", "cpu", "--parallel", "2"]);
    let asked = |more: &Value| {
        let mut asked = json!({ "prompt": [9, 700, 42], "max_tokens": 1, "temperature": 0 });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    };
    for more in [json!({}), json!({ "temperature": 0.5, "n": 2 }), json!({ "logprobs": 1 }), json!({ "n": 2 })] {
        server.complete(&asked(&more));
        let mut longer = more.clone();
        longer["max_tokens"] = 8.into();
        let (status, answer) = server.post("/v1/completions", &asked(&longer));
        assert_eq!(status, 500, "{more}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("logits are no numbers"), "{more}: {answer}");
    }
}

/// The model is at fault, not who asks.
#[test]
fn logits_that_are_no_numbers_are_told() {
    let (_temp, dir) = copy();
    damage(&dir, "lm_head.weight", |b| b.fill(0x7f));
    let server = Server::start(&dir, &["--device", "cpu"]);
    let (status, answer) = server.post("/v1/completions", &json!({ "prompt": "x" }));
    assert_eq!((status, &answer["error"]["type"]), (500, &"server_error".into()));
    assert!(answer["error"]["message"].as_str().unwrap().contains("logits are no numbers"), "{answer}");
    let asked = json!({ "prompt": "x", "stream": true }).to_string();
    let (status, answer) = server.send("POST", "/v1/completions", "", asked.as_bytes());
    assert_eq!(status, 200);
    assert!(
        answer.starts_with("data: {\"error\"") && answer.contains("no numbers") && !answer.contains("DONE"),
        "{answer}"
    );
}

/// Several at once, of which some leave before the end.
#[test]
fn many_clients_come_and_go() {
    let server = &Server::start(&nano(), &["--parallel", "3"]);
    let ask = |i: usize| json!({ "prompt": format!("The {i} men"), "max_tokens": 8 + i, "temperature": 0.8 * (i % 2) as f64, "seed": i });
    let alone: Vec<Value> = (0..6).map(|i| server.complete(&ask(i))["choices"].take()).collect();
    thread::scope(|scope| {
        let leave = |i: usize| {
            let mut body = ask(i);
            (body["max_tokens"], body["stream"]) = (80.into(), true.into());
            let body = body.to_string();
            let mut stream = TcpStream::connect(&server.address).unwrap();
            write!(stream, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            assert!(line.contains("200"), "{line}");
        };
        let left: Vec<_> = (0..3).map(|i| scope.spawn(move || leave(i))).collect();
        let answers: Vec<_> = (0..6).map(|i| scope.spawn(move || server.complete(&ask(i))["choices"].take())).collect();
        for (i, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.join().unwrap(), alone[i], "client {i}");
        }
        left.into_iter().for_each(|job| job.join().unwrap());
    });
    // Those who left are forgotten.
    server.idle();
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    let (_temp, dir) = copy();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    let refused = |args: &[&str]| refusal(wgquant().arg("serve").args(args));
    assert!(refused(&[dir.to_str().unwrap()]).contains("holds no tokenizer.json"));
    let nano = nano();
    let nano = nano.to_str().unwrap();
    assert!(refused(&[nano, "--api-key", ""]).contains("--api-key: is empty"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(refused(&[nano, "--port", &port]).contains(&format!("127.0.0.1:{port}")));
}
