use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, TablePart};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("embed");
}

fn error(ids: DType, table: (DType, usize), out: [usize; 2]) -> Error {
    let d = Device::Cpu;
    let ids = d.alloc(ids, [3]).unwrap();
    let table = d.alloc(table.0, [table.1, 8]).unwrap();
    let out = d.alloc(DType::F32, out).unwrap();
    kernels::embed(&mut Plan::new(&d), &ids, &table, TablePart::whole(table.shape.rows()), &out).unwrap_err()
}

#[test]
fn rejects_ids_that_are_not_integers() {
    assert!(matches!(error(DType::F32, (DType::F32, 5), [3, 8]), Error::DType { arg: "ids", .. }));
}

#[test]
fn rejects_table_of_codes() {
    assert!(matches!(error(DType::U32, (DType::I8, 5), [3, 8]), Error::DType { arg: "table", .. }));
}

#[test]
fn rejects_empty_table() {
    assert_eq!(error(DType::U32, (DType::F32, 0), [3, 8]).to_string(), "embed: `table`: it has no rows");
}

#[test]
fn rejects_output_of_another_shape() {
    assert!(matches!(error(DType::U32, (DType::F32, 5), [4, 8]), Error::Shape { arg: "out", .. }));
}

#[test]
fn rejects_part_beyond_the_vocabulary() {
    let d = Device::Cpu;
    let (ids, table) = (d.alloc(DType::U32, [3]).unwrap(), d.alloc(DType::F32, [5, 8]).unwrap());
    let out = d.alloc(DType::F32, [3, 8]).unwrap();
    let part = TablePart { first: 6, vocab: 10 };
    let error = kernels::embed(&mut Plan::new(&d), &ids, &table, part, &out).unwrap_err();
    assert_eq!(error.to_string(), "embed: `table`: 5 rows from 6 of a table of 10");
}
