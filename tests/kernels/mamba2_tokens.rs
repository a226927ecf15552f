use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, MambaVectors, Mixer, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("mamba2_tokens");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// What is said of `rows` of `y` for six tokens.
fn said(dims: SsdDims, rows: usize, limit: (f32, f32)) -> String {
    let device = Device::Cpu;
    let f32s = |shape: [usize; 2]| device.alloc(DType::F32, shape).unwrap();
    let (channels, heads) = (dims.conv_dim(), dims.heads);
    let (input, y) = (f32s([6, channels + heads]), f32s([rows, dims.d_inner()]));
    let (weight, bias, per_head) = (f32s([channels, 4]), f32s([1, channels]), f32s([3, heads]));
    let (conv, ssm) = (f32s([channels, 4]), f32s([heads, dims.head_dim * dims.state]));
    let tickets = device.alloc(DType::U32, [1, dims.groups]).unwrap();
    let mixer = Mixer {
        raw: &Columns::from(&input),
        vectors: MambaVectors { conv_weight: &weight, conv_bias: &bias, per_head: &per_head },
        conv_state: &conv,
        ssm_state: &ssm,
        tickets: &tickets,
        y: &y,
    };
    let done = kernels::mamba2_tokens(&mut Plan::new(&device), mixer, dims, limit);
    done.err().map_or("nothing".to_owned(), |e| e.to_string())
}

#[test]
fn rejects_wrong_arguments() {
    let any = (0.0, f32::INFINITY);
    assert_eq!(said(DIMS, 6, any), "nothing");
    assert!(said(DIMS, 5, any).contains("`y`"));
    assert!(said(DIMS, 6, (2.0, 1.0)).contains("mamba2_tokens: `dt_limit`"));
    let wide = SsdDims { state: 132, ..DIMS };
    assert!(kernels::fuses(wide, 4) && !kernels::fuses_tokens(wide, 4) && kernels::fuses_tokens(DIMS, 4));
    assert!(said(wide, 6, any).contains("at most 128 state elements, got 132"));
}
