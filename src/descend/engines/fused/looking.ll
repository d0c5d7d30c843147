; Looks at Python's objects: LLVM's intermediate representation, as in stepping.ll, which is before it.
;
; An eye is three 64-bit words: a library's dltensor_from_py_object_no_sync, DLPack's way to see a tensor from C;
; Python's PyList_GetItem; and where in an object its type stands. An expectation is eight words: the object itself, or
; 0 for any; its type, or 0 if it need not be looked at; the device, and the number of dimensions with the dtype, as a
; DLTensor has them; where its sizes are, and after them the strides; how many numbers it has; where its memory must be;
; and where to write that down instead, or 0.

; The first place in the list whose object is not as expected, or -1. Where there is one number in a dimension, its
; stride does not matter.
define i64 @look(ptr %eye, ptr %list, i64 %count, ptr %rows) {
entry:
  %seen = alloca [6 x i64]
  %seen.device = getelementptr i64, ptr %seen, i64 1
  %seen.kind = getelementptr i64, ptr %seen, i64 2
  %seen.sizes = getelementptr i64, ptr %seen, i64 3
  %seen.strides = getelementptr i64, ptr %seen, i64 4
  %see = load ptr, ptr %eye
  %get.at = getelementptr i64, ptr %eye, i64 1
  %get = load ptr, ptr %get.at
  %type.offset.at = getelementptr i64, ptr %eye, i64 2
  %type.offset = load i64, ptr %type.offset.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fits ]
  %left = icmp slt i64 %i, %count
  br i1 %left, label %who, label %all
all:
  ret i64 -1
who:
  %object = call ptr %get(ptr %list, i64 %i)
  %row.words = mul i64 %i, $expectation
  %row = getelementptr i64, ptr %rows, i64 %row.words
  %expected = load ptr, ptr %row
  %anyone = icmp eq ptr %expected, null
  %himself = icmp eq ptr %expected, %object
  %known = or i1 %anyone, %himself
  br i1 %known, label %what, label %wrong
what:
  %row.type.at = getelementptr i64, ptr %row, i64 1
  %row.type = load ptr, ptr %row.type.at
  %unseen = icmp eq ptr %row.type, null
  br i1 %unseen, label %fits, label %typed
typed:
  %type.at = getelementptr i8, ptr %object, i64 %type.offset
  %type = load ptr, ptr %type.at
  %same.type = icmp eq ptr %type, %row.type
  br i1 %same.type, label %view, label %wrong
view:
  %failed = call i32 %see(ptr %object, ptr %seen)
  %viewed = icmp eq i32 %failed, 0
  br i1 %viewed, label %compare, label %wrong
compare:
  %device = load i64, ptr %seen.device
  %row.device.at = getelementptr i64, ptr %row, i64 2
  %row.device = load i64, ptr %row.device.at
  %same.device = icmp eq i64 %device, %row.device
  %kind = load i64, ptr %seen.kind
  %row.kind.at = getelementptr i64, ptr %row, i64 3
  %row.kind = load i64, ptr %row.kind.at
  %same.kind = icmp eq i64 %kind, %row.kind
  %same = and i1 %same.device, %same.kind
  br i1 %same, label %shape, label %wrong
shape:
  %dims64 = and i64 %kind, 4294967295
  %row.sizes.at = getelementptr i64, ptr %row, i64 4
  %row.sizes = load ptr, ptr %row.sizes.at
  %row.strides = getelementptr i64, ptr %row.sizes, i64 %dims64
  %sizes = load ptr, ptr %seen.sizes
  %strides = load ptr, ptr %seen.strides
  %strided = icmp ne ptr %strides, null
  %scalar = icmp eq i64 %dims64, 0
  %legible = or i1 %strided, %scalar
  br i1 %legible, label %dim, label %wrong
dim:
  %d = phi i64 [ 0, %shape ], [ %d.next, %stride ]
  %d.left = icmp ult i64 %d, %dims64
  br i1 %d.left, label %size, label %memory
size:
  %size.at = getelementptr i64, ptr %sizes, i64 %d
  %one.size = load i64, ptr %size.at
  %row.size.at = getelementptr i64, ptr %row.sizes, i64 %d
  %row.size = load i64, ptr %row.size.at
  %same.size = icmp eq i64 %one.size, %row.size
  br i1 %same.size, label %stride, label %wrong
stride:
  %stride.at = getelementptr i64, ptr %strides, i64 %d
  %one.stride = load i64, ptr %stride.at
  %row.stride.at = getelementptr i64, ptr %row.strides, i64 %d
  %row.stride = load i64, ptr %row.stride.at
  %same.stride = icmp eq i64 %one.stride, %row.stride
  %alone = icmp eq i64 %one.size, 1
  %laid = or i1 %same.stride, %alone
  %d.next = add i64 %d, 1
  br i1 %laid, label %dim, label %wrong
memory:
  %start = load i64, ptr %seen
  %offset.at = getelementptr i64, ptr %seen, i64 5
  %offset = load i64, ptr %offset.at
  %address = add i64 %start, %offset
  %numbers.at = getelementptr i64, ptr %row, i64 5
  %numbers = load i64, ptr %numbers.at
  %nowhere = icmp eq i64 %address, 0
  %some = icmp ne i64 %numbers, 0
  %lost = and i1 %nowhere, %some
  br i1 %lost, label %wrong, label %there
there:
  %row.address.at = getelementptr i64, ptr %row, i64 6
  %row.address = load i64, ptr %row.address.at
  %target.at = getelementptr i64, ptr %row, i64 7
  %target = load ptr, ptr %target.at
  %fixed = icmp eq ptr %target, null
  br i1 %fixed, label %stays, label %moves
stays:
  %unmoved = icmp eq i64 %address, %row.address
  br i1 %unmoved, label %fits, label %wrong
moves:
  store i64 %address, ptr %target
  br label %fits
fits:
  %i.next = add i64 %i, 1
  br label %next
wrong:
  ret i64 %i
}

; Look, and if all is as expected, step a job alone.
define i64 @look_and_step(ptr %eye, ptr %list, i64 %count, ptr %rows, ptr %job) {
  %unlike = call i64 @look(ptr %eye, ptr %list, i64 %count, ptr %rows)
  %alike = icmp slt i64 %unlike, 0
  br i1 %alike, label %go, label %end
go:
  %wrong = call i64 @alone(ptr %job)
  ret i64 %wrong
end:
  ret i64 %unlike
}
