//! Statistics of activations: right, the same however passes are cut, mergeable, and the same after an interruption.

use std::path::Path;

use pollster::block_on;
use wgquant::Error;
use wgquant::calibrate::{Calibration, Calibrator, Sequences, SiteStats, Stats, StatsMeta, StatsPart};
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn nano() -> ModelFile {
    ModelFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nano")).unwrap()
}

/// Tokens of the held-out text, one after the other.
fn tokens(count: usize) -> Vec<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nano/val_ids_u16.npy");
    let settings = Calibration { sequences: count.div_ceil(1000), length: 1000, ..Default::default() };
    let windows = Sequences::draw(&path, None, None, &settings).unwrap().windows().unwrap();
    windows.0.concat()[..count].to_vec()
}

fn empty(covariance: bool) -> Stats {
    let part =
        StatsPart { file: "val".to_owned(), tokens_sha256: String::new(), sequences: 0, length: 0, tokens: 0, seed: 0 };
    Stats::new(StatsMeta::new(nano().checkpoint(), "test".to_owned(), covariance, part).unwrap())
}

/// Goes on from `stats` with these sequences.
fn go_on(device: &Device, stats: Stats, pass_tokens: usize, sequences: &[&[u32]]) -> Stats {
    let file = nano();
    let context = sequences.iter().map(|s| s.len()).max().unwrap();
    let engine = Engine::new(device, &file, EngineOptions { context, pass_tokens, ..Default::default() }).unwrap();
    let mut calibrator = Calibrator::new(engine, file.rotation(), stats).unwrap();
    sequences.iter().for_each(|s| block_on(calibrator.sequence(s)).unwrap());
    calibrator.stats().clone()
}

/// Largest relative difference of two sets of statistics, each number relative to the size of its kind at its site: of
/// means, and of extremes, each of which is a single activation.
fn differences(a: &Stats, b: &Stats) -> [(f64, String); 2] {
    assert!(a.sites.keys().eq(b.sites.keys()));
    let mut worst = [(0.0, String::new()), (0.0, String::new())];
    for (name, (x, y)) in a.sites.iter().map(|(k, x)| (k, (x, &b.sites[k]))) {
        assert_eq!(x.samples, y.samples, "{name}");
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let mut compare = |kind: String, x: &[f64], y: &[f64]| {
            let size = x.iter().map(|v| v.abs()).fold(1e-30, f64::max);
            let far = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / size;
            // What GPTQ and transforms go by, and the rest: extremes and third and fourth powers.
            let rest = kind.starts_with('m') || kind.ends_with('3') || kind.ends_with('4');
            let worst = &mut worst[usize::from(rest)];
            if far > worst.0 {
                *worst = (far, format!("{name} {kind}"));
            }
        };
        compare("min".to_owned(), &wide(&x.min), &wide(&y.min));
        compare("max".to_owned(), &wide(&x.max), &wide(&y.max));
        for p in 1..=4 {
            compare(format!("power {p}"), &x.moment(p), &y.moment(p));
        }
        if let (Some(p), Some(q)) = (&x.products, &y.products) {
            compare("products".to_owned(), p, q);
        }
    }
    worst
}

#[test]
fn a_sequence_of_nothing_is_refused() {
    let file = nano();
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    let engine = Engine::new(&Device::Cpu, &file, options).unwrap();
    let mut calibrator = Calibrator::new(engine, file.rotation(), empty(false)).unwrap();
    let error = block_on(calibrator.sequence(&[])).unwrap_err().to_string();
    assert!(error.contains("no tokens") && calibrator.stats().sites.is_empty(), "{error}");
}

/// Every site that a tap holds, against sums in f64 over what [`Engine::trace`] gives.
#[test]
fn they_are_those_of_the_taps() {
    let (file, ids) = (nano(), tokens(200));
    let options = EngineOptions { context: 200, pass_tokens: 256, ..Default::default() };
    let taps = block_on(Engine::new(&Device::Cpu, &file, options).unwrap().trace(&ids)).unwrap();
    let tap = |name: &str| &taps.iter().find(|(n, _)| n == name).unwrap().1;
    let (inner, bc, rows) = (256, 64, 256 + 256 + 128 + 8);
    // Tap, width of its rows, first column, columns, site.
    let columns = [
        ("hidden.0", 128, 0, 128, "backbone.layers.0"),
        ("hidden.9", 128, 0, 128, "backbone.norm_f"),
        ("norm_f", 128, 0, 128, "lm_head"),
        ("layer.0.norm", 128, 0, 128, "backbone.layers.0.mixer.in_proj"),
        ("layer.0.in_proj", rows, 0, inner, "backbone.layers.0.mixer.z"),
        ("layer.0.conv", inner + 2 * bc, 0, inner, "backbone.layers.0.mixer.x"),
        ("layer.0.conv", inner + 2 * bc, inner, bc, "backbone.layers.0.mixer.B"),
        ("layer.0.conv", inner + 2 * bc, inner + bc, bc, "backbone.layers.0.mixer.C"),
        ("layer.2.gated_norm", inner, 0, inner, "backbone.layers.2.mixer.out_proj"),
        ("layer.1.norm", 128, 0, 128, "backbone.layers.1.mixer.up_proj"),
        ("layer.1.up_proj", 672, 0, 672, "backbone.layers.1.mixer.down_proj"),
        ("layer.3.norm", 128, 0, 128, "backbone.layers.3.mixer.q_proj"),
        ("layer.3.attention", 128, 0, 128, "backbone.layers.3.mixer.o_proj"),
        ("layer.3.k_proj", 64, 0, 64, "backbone.layers.3.mixer.key"),
    ];
    for (device, limit) in [(Device::Cpu, 1e-7), (common::gpu(), 3e-5)] {
        let stats = go_on(&device, empty(true), 256, &[&ids]);
        for (name, width, first, count, site) in columns {
            let channel = |c: usize| tap(name).iter().skip(first + c).step_by(width).copied().collect();
            check(site, &stats.sites[site], (0..count).map(channel).collect(), limit);
        }
        let by_head = |name: &str, each: usize| tap(name).chunks(each).map(<[f32]>::to_vec).collect::<Vec<_>>();
        check("dt", &stats.sites["backbone.layers.0.mixer.dt"], by_head("layer.0.dt", 200), limit);
        // States after the first chunk of 128 and at the end: 32 channels of 32 for each of 8 heads.
        assert_eq!(stats.sites["backbone.layers.0.mixer.state"].samples, 2 * 32 * 32);
        let products = stats.sites["backbone.layers.0.mixer.in_proj"].products.as_ref().unwrap();
        let x = tap("layer.0.norm");
        for (i, j) in [(0, 0), (3, 70), (127, 12)] {
            let pair = |row: &[f32]| f64::from(row[i]) * f64::from(row[j]);
            let want: f64 = x.chunks(128).map(pair).sum();
            let size: f64 = x.chunks(128).map(|r| pair(r).abs()).sum();
            assert!((products[i * 128 + j] - want).abs() < limit * size);
        }
        assert!(stats.sites["backbone.layers.0.mixer.z"].products.is_none());
        assert_eq!(stats.input("backbone.layers.3.mixer.v_proj"), stats.sites.get("backbone.layers.3.mixer.q_proj"));
    }
}

fn check(name: &str, site: &SiteStats, channels: Vec<Vec<f32>>, limit: f64) {
    assert_eq!((site.channels(), site.samples), (channels.len(), channels[0].len() as u64), "{name}");
    let all = |power: i32| channels.iter().flatten().map(|v| f64::from(*v).abs().powi(power)).sum::<f64>();
    for (c, of) in channels.iter().enumerate() {
        for power in 1..=4 {
            let want: f64 = of.iter().map(|v| f64::from(*v).powi(power)).sum();
            let far = (site.powers[power as usize - 1][c] - want).abs();
            assert!(far <= limit * all(power), "{name} channel {c} power {power}: off by {far:e} of {want:e}");
        }
        let want = of.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
        assert!((site.absmax()[c] - want).abs() <= limit as f32 * want.max(1.0), "{name} channel {c}");
    }
    let mut sorted: Vec<f32> = channels.iter().flatten().map(|v| v.abs()).collect();
    sorted.sort_by(f32::total_cmp);
    for p in [0.5, 0.99, 0.999] {
        let want = f64::from(sorted[((sorted.len() as f64 * p) as usize).min(sorted.len() - 1)]);
        // A bin is an eighth of an octave.
        assert!((site.percentile(p) - want).abs() <= 0.13 * want + 1e-9, "{name} {p}: {} {want}", site.percentile(p));
    }
}

#[test]
fn cut_into_passes_of_any_length_they_are_the_same() {
    let ids = tokens(4096);
    for (device, limit) in [(Device::Cpu, 1e-6), (common::gpu(), 1e-5)] {
        let want = go_on(&device, empty(false), 512, &[&ids]);
        for pass in [64, 128] {
            let [moments, rest] = differences(&want, &go_on(&device, empty(false), pass, &[&ids]));
            println!("{}, passes of {pass}: moments {moments:?}, rest {rest:?}", device.name());
            assert!(moments.0 <= limit, "passes of {pass}: {moments:?}");
            // The f32 state is rounded where a pass ends, so one activation may differ by some 1e-6, and its fourth
            // power by four times that; sums of many do not.
            assert!(rest.0 <= 1e-5, "passes of {pass}: {rest:?}");
        }
    }
}

#[test]
fn merged_they_are_those_of_all_at_once() {
    let ids = tokens(800);
    let (first, second) = ids.split_at(500);
    let all = go_on(&Device::Cpu, empty(true), 128, &[first, second]);
    let mut merged = go_on(&Device::Cpu, empty(true), 128, &[first]);
    let other = go_on(&Device::Cpu, empty(true), 128, &[second]);
    merged.merge(&other).unwrap();
    let [means, extremes] = differences(&all, &merged);
    assert!(means.0 <= 1e-14 && extremes.0 == 0.0, "{means:?} {extremes:?}");
    for (name, site) in &all.sites {
        assert_eq!(site.magnitudes, merged.sites[name].magnitudes, "{name}");
    }
    assert_eq!(merged.tokens(), all.tokens());
    let refused = |mut a: Stats, b: &Stats| match a.merge(b) {
        Err(Error::StatsMismatch { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(merged.clone(), &other), "text");
    assert_eq!(refused(merged.clone(), &empty(false)), "covariance");
    let mut foreign = empty(true);
    foreign.meta.model_sha256 = "0".repeat(64);
    assert_eq!(refused(merged, &foreign), "model");
}

/// Saved, read and gone on with: the bytes of an uninterrupted run.
#[test]
fn an_interruption_changes_no_bit() {
    let (ids, temp) = (tokens(900), tempfile::tempdir().unwrap());
    let parts: Vec<&[u32]> = ids.chunks(300).collect();
    let path = |name: &str| temp.path().join(name);
    go_on(&Device::Cpu, empty(true), 128, &parts).save(&path("whole")).unwrap();
    go_on(&Device::Cpu, empty(true), 128, &parts[..1]).save(&path("part")).unwrap();
    let stats = Stats::load(&path("part")).unwrap();
    go_on(&Device::Cpu, stats, 128, &parts[1..]).save(&path("part")).unwrap();
    assert!(std::fs::read(path("whole")).unwrap() == std::fs::read(path("part")).unwrap());
    // A file cut short, and one of something else.
    let bytes = std::fs::read(path("whole")).unwrap();
    std::fs::write(path("cut"), &bytes[..bytes.len() / 2]).unwrap();
    for file in [path("cut"), Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nano/model.safetensors")] {
        let error = Stats::load(&file).unwrap_err().to_string();
        assert!(error.contains("is no file of statistics"), "{error}");
    }
}
