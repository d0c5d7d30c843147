; Looks at Python's objects: LLVM's intermediate representation, as in stepping.ll, which is before it.
;
; A sight is five 64-bit words: a library's dltensor_from_py_object_no_sync, DLPack's way to see a tensor from C; where in
; an object its type stands; expectations, and how many; a job, or 0.
;
; An expectation is eleven words. The first is its kind:
; 0, what is in a container: the next in it each time;
; 1, what is the attribute of an object;
; 2, a list, and 3, a dict: the container of what follows, in its order.
; The second is the object that must be there, or 0 for any. The third is, for a container, how many are in it; else the
; type of a tensor, or 0 if none is to be seen. What follows is of that tensor: the device, and the number of dimensions
; with the dtype, as a DLTensor has them; where its sizes are, and after them the strides; how many numbers it has; where
; its memory must be; or instead of that, where to write that down, or 0. The last two are, for an attribute, the object
; that has it and its name; for what is in a dict, the last is its key.

declare ptr @PyList_GetItem(ptr, i64)
declare i64 @PyList_Size(ptr)
declare i32 @PyDict_Next(ptr, ptr, ptr, ptr)
declare i64 @PyDict_Size(ptr)
declare ptr @PyObject_GetAttr(ptr, ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyLong_FromSsize_t(i64)

; A function of Python's, without arguments: look, and if all is as expected, step the sight's job alone. Returns the
; place of the first expectation that is not met, or as advance does. Its self is the address of the sight, as an int.
define ptr @look(ptr %self, ptr %nothing) {
  %sight = call ptr @PyLong_AsVoidPtr(ptr %self)
  %unlike = call i64 @unlike(ptr %sight)
  %failed = icmp eq i64 %unlike, -2
  br i1 %failed, label %raise, label %looked
raise:
  ret ptr null
looked:
  %alike = icmp slt i64 %unlike, 0
  %job.at = getelementptr i64, ptr %sight, i64 4
  %job = load ptr, ptr %job.at
  %has.job = icmp ne ptr %job, null
  %steps = and i1 %alike, %has.job
  br i1 %steps, label %step, label %answer
step:
  %wrong = call i64 @alone(ptr %job)
  br label %answer
answer:
  %result = phi i64 [ %unlike, %looked ], [ %wrong, %step ]
  %number = call ptr @PyLong_FromSsize_t(i64 %result)
  ret ptr %number
}

; The place of the first expectation that is not met; or -1; or -2 with an error of Python's.
define internal i64 @unlike(ptr %sight) {
entry:
  %pos = alloca i64
  %key = alloca ptr
  %value = alloca ptr
  %container.at = alloca ptr
  %listed.at = alloca i1
  %place.at = alloca i64
  %rows.at = getelementptr i64, ptr %sight, i64 2
  %rows = load ptr, ptr %rows.at
  %count.at = getelementptr i64, ptr %sight, i64 3
  %count = load i64, ptr %count.at
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %fits ]
  %left = icmp slt i64 %i, %count
  br i1 %left, label %expected, label %all
all:
  ret i64 -1
wrong:
  ret i64 %i
error:
  ret i64 -2
fits:
  %i.next = add i64 %i, 1
  br label %next
expected:
  %row.words = mul i64 %i, $expectation
  %row = getelementptr i64, ptr %rows, i64 %row.words
  %kind = load i64, ptr %row
  %thing.at = getelementptr i64, ptr %row, i64 1
  %many.at = getelementptr i64, ptr %row, i64 2
  switch i64 %kind, label %item [
    i64 1, label %of.object
    i64 2, label %in.list
    i64 3, label %in.dict
  ]
in.list:
  %list = load ptr, ptr %thing.at
  %list.many = load i64, ptr %many.at
  %list.size = call i64 @PyList_Size(ptr %list)
  store ptr %list, ptr %container.at
  store i1 true, ptr %listed.at
  store i64 0, ptr %place.at
  %list.fits = icmp eq i64 %list.size, %list.many
  br i1 %list.fits, label %fits, label %wrong
in.dict:
  %dict = load ptr, ptr %thing.at
  %dict.many = load i64, ptr %many.at
  %dict.size = call i64 @PyDict_Size(ptr %dict)
  store ptr %dict, ptr %container.at
  store i1 false, ptr %listed.at
  store i64 0, ptr %pos
  %dict.fits = icmp eq i64 %dict.size, %dict.many
  br i1 %dict.fits, label %fits, label %wrong
of.object:
  %holder.at = getelementptr i64, ptr %row, i64 9
  %holder = load ptr, ptr %holder.at
  %name.at = getelementptr i64, ptr %row, i64 10
  %name = load ptr, ptr %name.at
  %attribute = call ptr @PyObject_GetAttr(ptr %holder, ptr %name)
  %lacks = icmp eq ptr %attribute, null
  br i1 %lacks, label %error, label %has
has:
  %has.fit = call i64 @fit(ptr %sight, ptr %row, ptr %attribute)
  call void @Py_DecRef(ptr %attribute)
  br label %judged
item:
  %container = load ptr, ptr %container.at
  %listed = load i1, ptr %listed.at
  br i1 %listed, label %element, label %entry.of
element:
  %place = load i64, ptr %place.at
  %place.next = add i64 %place, 1
  store i64 %place.next, ptr %place.at
  %found = call ptr @PyList_GetItem(ptr %container, i64 %place)
  %found.fit = call i64 @fit(ptr %sight, ptr %row, ptr %found)
  br label %judged
entry.of:
  %more = call i32 @PyDict_Next(ptr %container, ptr %pos, ptr %key, ptr %value)
  %none = icmp eq i32 %more, 0
  br i1 %none, label %wrong, label %valued
valued:
  %held.key = load ptr, ptr %key
  %row.key.at = getelementptr i64, ptr %row, i64 10
  %row.key = load ptr, ptr %row.key.at
  %same.key = icmp eq ptr %held.key, %row.key
  br i1 %same.key, label %keyed, label %wrong
keyed:
  %held = load ptr, ptr %value
  %held.fit = call i64 @fit(ptr %sight, ptr %row, ptr %held)
  br label %judged
judged:
  %fit = phi i64 [ %has.fit, %has ], [ %found.fit, %element ], [ %held.fit, %keyed ]
  switch i64 %fit, label %error [
    i64 0, label %wrong
    i64 1, label %fits
  ]
}

; Whether an object is as expected: 1, or 0; or -2 with an error of Python's. Where there is one number in a dimension,
; its stride does not matter.
define internal i64 @fit(ptr %sight, ptr %row, ptr %object) {
who:
  %seen = alloca [6 x i64]
  %expected.at = getelementptr i64, ptr %row, i64 1
  %expected = load ptr, ptr %expected.at
  %anyone = icmp eq ptr %expected, null
  %himself = icmp eq ptr %expected, %object
  %known = or i1 %anyone, %himself
  br i1 %known, label %what, label %wrong
wrong:
  ret i64 0
fits:
  ret i64 1
error:
  ret i64 -2
what:
  %row.type.at = getelementptr i64, ptr %row, i64 2
  %row.type = load ptr, ptr %row.type.at
  %unseen = icmp eq ptr %row.type, null
  br i1 %unseen, label %fits, label %typed
typed:
  %type.offset.at = getelementptr i64, ptr %sight, i64 1
  %type.offset = load i64, ptr %type.offset.at
  %type.at = getelementptr i8, ptr %object, i64 %type.offset
  %type = load ptr, ptr %type.at
  %same.type = icmp eq ptr %type, %row.type
  br i1 %same.type, label %view, label %wrong
view:
  %see = load ptr, ptr %sight
  %failed = call i32 %see(ptr %object, ptr %seen)
  %viewed = icmp eq i32 %failed, 0
  br i1 %viewed, label %compare, label %error
compare:
  %seen.device = getelementptr i64, ptr %seen, i64 1
  %seen.kind = getelementptr i64, ptr %seen, i64 2
  %seen.sizes = getelementptr i64, ptr %seen, i64 3
  %seen.strides = getelementptr i64, ptr %seen, i64 4
  %device = load i64, ptr %seen.device
  %row.device.at = getelementptr i64, ptr %row, i64 3
  %row.device = load i64, ptr %row.device.at
  %same.device = icmp eq i64 %device, %row.device
  %kind = load i64, ptr %seen.kind
  %row.kind.at = getelementptr i64, ptr %row, i64 4
  %row.kind = load i64, ptr %row.kind.at
  %same.kind = icmp eq i64 %kind, %row.kind
  %same = and i1 %same.device, %same.kind
  br i1 %same, label %shape, label %wrong
shape:
  %dims64 = and i64 %kind, 4294967295
  %row.sizes.at = getelementptr i64, ptr %row, i64 5
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
  %numbers.at = getelementptr i64, ptr %row, i64 6
  %numbers = load i64, ptr %numbers.at
  %nowhere = icmp eq i64 %address, 0
  %some = icmp ne i64 %numbers, 0
  %lost = and i1 %nowhere, %some
  br i1 %lost, label %wrong, label %there
there:
  %row.address.at = getelementptr i64, ptr %row, i64 7
  %row.address = load i64, ptr %row.address.at
  %target.at = getelementptr i64, ptr %row, i64 8
  %target = load ptr, ptr %target.at
  %fixed = icmp eq ptr %target, null
  br i1 %fixed, label %stays, label %moves
stays:
  %unmoved = icmp eq i64 %address, %row.address
  br i1 %unmoved, label %fits, label %wrong
moves:
  store i64 %address, ptr %target
  br label %fits
}
