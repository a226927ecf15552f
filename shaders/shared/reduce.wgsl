// Sums and maxima over a workgroup (shared/reduce_in.wgsl), with scratch memory of their own.
#import reduce_in

// With the word `subgroups` one partial result a subgroup; of how many threads each is, is not known here, so there is
// room for any number.
var<workgroup> reduce_scratch: array<f32, WG>;
