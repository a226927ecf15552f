use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, GatedMixer, GroupedTokens, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("mamba2_tokens_gated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 32, groups: 2, state: 12, chunk: 1 };
const TAPS: usize = 3;
const ROWS: usize = 8;

/// Runs `launch` on a mixer of such sizes with `rows` rows and one sequence; gives all that it left.
fn left(
    device: &Device,
    dims: SsdDims,
    rows: usize,
    launch: impl FnOnce(&mut Plan, GatedMixer<'_>) -> wgquant::Result<()>,
) -> Result<Vec<Vec<u32>>, Error> {
    let (inner, channels) = (dims.d_inner(), dims.conv_dim());
    let values = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 211) as f32 * 0.01 - 1.0).collect() };
    let upload = |shape: [usize; 2]| device.upload_f32(shape, &values(shape[0] * shape[1])).unwrap();
    let alloc = |dtype, shape: [usize; 2]| device.alloc(dtype, shape).unwrap();
    let wide = upload([rows, 8 + inner + channels + dims.heads]);
    let vectors = upload([1, channels * (TAPS + 1) + 3 * dims.heads + inner]);
    let (conv, ssm) = (upload([channels, TAPS]), upload([dims.heads, dims.head_dim * dims.state]));
    let tickets = alloc(DType::U32, [1, dims.groups]);
    let (codes, scales) = (alloc(DType::I8, [rows, inner]), alloc(DType::F32, [2, rows * inner / 32]));
    let mixer = GatedMixer {
        projected: &Columns::new("test", &wide, 8, inner + channels + dims.heads).unwrap(),
        vectors: &vectors,
        conv_state: &conv,
        ssm_state: &ssm,
        tickets: &tickets,
        out: GroupedTokens { codes: &codes, scales: &scales },
    };
    let mut plan = Plan::new(device);
    launch(&mut plan, mixer)?;
    plan.record().unwrap().run().unwrap();
    Ok([&conv, &ssm, &tickets, &codes, &scales].map(|t| block_on(device.read(t)).unwrap()).to_vec())
}

fn refused(dims: SsdDims, rows: usize, tokens: usize, limit: (f32, f32), block: usize) -> String {
    let launch =
        |plan: &mut Plan, mixer: GatedMixer<'_>| kernels::mamba2_tokens_gated(plan, mixer, tokens, dims, limit, block);
    left(&Device::Cpu, dims, rows, launch).err().map_or("none".to_owned(), |e| e.to_string())
}

const ANY_DT: (f32, f32) = (0.0, f32::INFINITY);

/// Rows beyond the tokens change nothing, however many there are.
#[test]
fn other_rows_are_zeros() {
    for device in [Device::Cpu, super::common::gpu()] {
        let of = |rows: usize| {
            left(&device, DIMS, rows, |plan, mixer| kernels::mamba2_tokens_gated(plan, mixer, 3, DIMS, ANY_DT, 8))
                .unwrap()
        };
        let (few, many) = (of(3), of(ROWS));
        assert_eq!(few[..3], many[..3], "states and tickets on {}", device.name());
        let (words, groups) = (3 * DIMS.d_inner() / 4, 3 * DIMS.d_inner() / 32);
        assert_eq!(few[3], many[3][..words]);
        assert!(many[3][words..].iter().all(|word| *word == 0));
        let (scales, squares) = many[4].split_at(many[4].len() / 2);
        assert_eq!(few[4], [&scales[..groups], &squares[..groups]].concat());
        assert!([scales, squares].iter().all(|all| all[groups..].iter().all(|word| *word == 0)));
    }
}

#[test]
fn rejects_wrong_arguments() {
    assert_eq!(refused(DIMS, ROWS, 5, ANY_DT, 8), "none");
    for tokens in [0, ROWS + 1] {
        let error = refused(DIMS, ROWS, tokens, ANY_DT, 8);
        assert!(error.contains(&format!("`tokens`: {tokens} of {ROWS} rows")), "{error}");
    }
    let wide = SsdDims { state: 132, ..DIMS };
    assert!(kernels::gates(wide, TAPS) && !kernels::gates_tokens(wide, TAPS) && kernels::gates_tokens(DIMS, TAPS));
    let error = refused(wide, ROWS, 5, ANY_DT, 8);
    assert!(error.contains("at most 128 state elements, got 132"), "{error}");
    assert!(refused(DIMS, ROWS, 5, (2.0, 1.0), 8).contains("`dt_limit`"));
    assert!(refused(DIMS, ROWS, 5, ANY_DT, 12).contains("`block`"));
    assert!(
        refused(SsdDims { head_dim: 72, ..DIMS }, ROWS, 5, ANY_DT, 8).contains("groups of 144 channels in runs of 32")
    );
}
