use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::check::check;
use wgquant::kernels::{self, ENTRIES};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("probe_subgroup");
}

#[test]
fn reference_by_hand() {
    let p = wgquant::shaders::probe_subgroup::Params { workgroups: 2, least: 4, most: 128 };
    let format = wgquant::shaders::probe_subgroup::Format::Wg25;
    let x: Vec<u32> = (0..50).collect();
    let (mut wrong, mut totals, mut sizes) = ([9; 50], [9; 2], [9; 50]);
    wgquant::reference::probe_subgroup::probe_subgroup(&p, format, &x, &mut wrong, &mut totals, &mut sizes);
    assert_eq!((wrong, totals, sizes), ([0; 50], [300, 925], [1; 50]));
}

/// Without subgroups each case is skipped, by name and with the reason; with them each says the size it found.
#[test]
fn is_skipped_where_there_are_no_subgroups() {
    let masked = super::common::open(Some("baseline"));
    let gpu = super::common::gpu();
    let entry = ENTRIES.iter().find(|e| e.name == "probe_subgroup").unwrap();
    for case in entry.cases {
        let outcome = block_on(check(&masked, entry, case, None, 1)).unwrap();
        let reason = outcome.skipped.unwrap();
        assert!(reason.contains("lacks subgroups") && outcome.failure.is_none(), "{reason}");
        assert_eq!((outcome.variant.as_str(), outcome.note), ("", None));
        if gpu.gpu().is_some_and(|g| g.caps.subgroups.is_some()) {
            let note = block_on(check(&gpu, entry, case, None, 1)).unwrap().note.unwrap();
            assert!(note.starts_with("subgroup size"), "{note}");
            println!("{}: {note}", gpu.name());
        }
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let tensor = |rows: usize, cols: usize| d.alloc(DType::U32, [rows, cols]).unwrap();
    let run = |threads: usize, totals: usize| {
        let (x, wrong, sizes) = (tensor(3, threads), tensor(3, threads), tensor(3, threads));
        let totals = d.alloc(DType::U32, [totals]).unwrap();
        kernels::probe_subgroup(&mut Plan::new(&d), &x, &wrong, &totals, &sizes)
    };
    assert!(run(32, 3).is_ok());
    assert!(matches!(run(32, 4).unwrap_err(), Error::Shape { arg: "totals", .. }));
    assert!(run(31, 3).unwrap_err().to_string().contains("31"));
}
