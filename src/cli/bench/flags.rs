//! llama-bench's lists and two-letter flags.

use std::ffi::OsString;
use std::str::FromStr;

/// Sizes as llama-bench takes them: `512,1024`, `1-8`, `16-128+16`, `128-2048*2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sizes(Vec<usize>);

/// Most sizes of a list: more is a slip of the pen.
const MOST: usize = 1000;

impl Sizes {
    /// Those of a flag that was given once or more often.
    pub(super) fn all(lists: &[Self]) -> impl Iterator<Item = usize> + '_ {
        lists.iter().flat_map(|list| list.0.iter().copied())
    }

    /// Is there more than one size among them?
    pub(super) fn differ(lists: &[Self]) -> bool {
        let mut all = Self::all(lists);
        let first = all.next();
        all.any(|size| Some(size) != first)
    }

    /// A list for a flag that 0 means nothing to.
    pub(super) fn above_0(text: &str) -> Result<Self, String> {
        let list: Self = text.parse()?;
        if list.0.contains(&0) { Err(format!("`{text}` has a 0, which is no size of a pass")) } else { Ok(list) }
    }
}

/// A -b and a -ub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) n_batch: usize,
    pub(super) n_ubatch: usize,
}

impl Batch {
    /// Each of the one with each of the other, as llama-bench orders them.
    pub(super) fn each(n_batch: &[Sizes], n_ubatch: &[Sizes]) -> Vec<Self> {
        let with = |n_batch| Sizes::all(n_ubatch).map(move |n_ubatch| Self { n_batch, n_ubatch });
        Sizes::all(n_batch).flat_map(with).collect()
    }

    /// Tokens of a pass at most.
    pub(super) fn pass_tokens(self) -> usize {
        self.n_batch.min(self.n_ubatch)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<Vec<usize>> = text.split(',').map(range).collect::<Result<_, _>>()?;
        let all: Vec<usize> = parts.concat();
        if all.len() > MOST {
            return Err(format!("{} sizes, above {MOST}", all.len()));
        }
        Ok(Self(all))
    }
}

fn number(text: &str) -> Result<usize, String> {
    // A context beyond this is no context.
    let most = 1 << 30;
    text.trim().parse().ok().filter(|n| *n <= most).ok_or_else(|| format!("`{text}` is no number up to {most}"))
}

fn range(text: &str) -> Result<Vec<usize>, String> {
    let Some((first, rest)) = text.split_once('-') else { return Ok(vec![number(text)?]) };
    let at = rest.find(['+', '*']).unwrap_or(rest.len());
    let (last, step) = rest.split_at(at);
    let (first, last) = (number(first)?, number(last)?);
    let next: Box<dyn Fn(usize) -> usize> = match step.split_at_checked(1) {
        None => Box::new(|n| n + 1),
        Some((sign, by)) => match (sign, number(by)?) {
            ("+", by) if by > 0 => Box::new(move |n| n + by),
            ("*", by) if by > 1 && first > 0 => Box::new(move |n| n * by),
            _ => return Err(format!("`{text}` never ends")),
        },
    };
    if first > last {
        return Err(format!("`{text}` is empty"));
    }
    Ok(std::iter::successors(Some(first), |n| Some(next(*n))).take_while(|n| *n <= last).take(MOST + 1).collect())
}

/// A prompt's tokens and those to make after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair(pub(super) usize, pub(super) usize);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not PROMPT,GEN, both above 0");
        let (prompt, generate) = text.split_once(',').ok_or_else(wrong)?;
        match (number(prompt)?, number(generate)?) {
            (0, _) | (_, 0) => Err(wrong()),
            (prompt, generate) => Ok(Self(prompt, generate)),
        }
    }
}

/// llama-bench's `-ngl`, which would be ignored; the others here likewise.
pub(super) fn no_layers(_: &str) -> Result<u32, String> {
    Err("-ngl: there is nothing to share out, all layers are on the device that --device names".to_owned())
}

pub(super) fn no_threads(_: &str) -> Result<u32, String> {
    Err("-t: models run on the device; what the host does takes all cores, or RAYON_NUM_THREADS of them".to_owned())
}

pub(super) fn no_flash_attention(_: &str) -> Result<u32, String> {
    Err("-fa: attention never keeps a matrix of scores, there is nothing to turn on or off".to_owned())
}

pub(super) fn no_second_output(_: &str) -> Result<String, String> {
    Err("-oe: results are printed once, on standard output in the form that -o names".to_owned())
}

/// `bench`'s flags of two or three letters in their long forms, which clap knows.
pub(in crate::cli) fn long_flags(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let args: Vec<OsString> = args.collect();
    if args.get(1).is_none_or(|a| a != "bench") {
        return args;
    }
    let long = |a: OsString| match a.to_str() {
        Some("-ub") => "--ubatch-size".into(),
        Some("-pg") => "--pg".into(),
        Some("-npl") => "--parallel".into(),
        Some("-ctk") => "--cache-type-k".into(),
        Some("-ctv") => "--cache-type-v".into(),
        Some("-ngl") => "--n-gpu-layers".into(),
        Some("-fa") => "--flash-attn".into(),
        Some("-oe") => "--output-err".into(),
        _ => a,
    };
    args.into_iter().map(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Result<Vec<usize>, String> {
        text.parse::<Sizes>().map(|s| s.0)
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(sizes("512"), Ok(vec![512]));
        assert_eq!(sizes("0,512,7"), Ok(vec![0, 512, 7]));
        assert_eq!(sizes("1-3"), Ok(vec![1, 2, 3]));
        assert_eq!(sizes("10-30+10,5"), Ok(vec![10, 20, 30, 5]));
        assert_eq!(sizes("128-600*2"), Ok(vec![128, 256, 512]));
        for wrong in ["", "x", "3-1", "1-5+0", "1-5*1", "0-5*2", "1-9999", "-5", "5-"] {
            assert!(sizes(wrong).is_err(), "{wrong}");
        }
        let twice = ["8", "16-18"].map(|text| text.parse().unwrap());
        assert_eq!(Sizes::all(&twice).collect::<Vec<_>>(), [8, 16, 17, 18]);
        assert_eq!("512,128".parse(), Ok(Pair(512, 128)));
        assert!("512".parse::<Pair>().is_err() && "0,1".parse::<Pair>().is_err());
    }

    #[test]
    fn sizes_of_passes_are_combined() {
        let lists = |texts: &[&str]| texts.iter().map(|t| Sizes::above_0(t).unwrap()).collect::<Vec<_>>();
        let all = Batch::each(&lists(&["512", "2048"]), &lists(&["128,1024"]));
        let got: Vec<_> = all.iter().map(|b| (b.n_batch, b.n_ubatch, b.pass_tokens())).collect();
        assert_eq!(got, [(512, 128, 128), (512, 1024, 512), (2048, 128, 128), (2048, 1024, 1024)]);
        assert!(Sizes::above_0("8,0").unwrap_err().contains("`8,0` has a 0"));
        assert!(Sizes::differ(&lists(&["8", "8,9"])) && !Sizes::differ(&lists(&["8", "8"])));
    }

    #[test]
    fn two_letters_are_long_flags_of_bench_only() {
        let of = |words: &[&str]| long_flags(words.iter().map(OsString::from));
        assert_eq!(of(&["wgquant", "bench", "-ub", "8", "-pg", "1,2"])[2], "--ubatch-size");
        assert_eq!(of(&["wgquant", "bench", "-ub", "8", "-pg", "1,2"])[4], "--pg");
        assert_eq!(of(&["wgquant", "bench", "-npl", "1,8"])[2], "--parallel");
        assert_eq!(of(&["wgquant", "bench", "-ctk", "f16"])[2], "--cache-type-k");
        assert_eq!(of(&["wgquant", "generate", "-ub"])[2], "-ub");
    }
}
