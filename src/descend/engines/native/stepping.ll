; Steps a job: LLVM's intermediate representation, in which native.py replaces what begins with a dollar sign.
;
; A job is eight 64-bit words: the kernel, the spans' table, the rows of scalars, its parts, their number; and of the
; counters their addresses, the table of what each is, will be, and then grows by (float32), and their number. Counters
; are numbers in the user's hands, such as the step that a tensor's state says it is at.
;
; A part is $part words, of which three are used: the chunk that is claimed next, the first chunk, the chunk after its
; last.

declare i64 @read(i32, ptr, i64)
declare i64 @write(i32, ptr, i64)
declare i32 @sched_yield()
declare i32 @clock_gettime(i32, ptr)

; Advance all counters, and return -1; or, if one is not what the job expects, return its place and do nothing.
define i64 @advance(ptr %job) {
entry:
  %parts.at = getelementptr i64, ptr %job, i64 3
  %parts = load ptr, ptr %parts.at
  %parts.count.at = getelementptr i64, ptr %job, i64 4
  %parts.count = load i64, ptr %parts.count.at
  %addresses.at = getelementptr i64, ptr %job, i64 5
  %addresses = load ptr, ptr %addresses.at
  %table.at = getelementptr i64, ptr %job, i64 6
  %table = load ptr, ptr %table.at
  %count.at = getelementptr i64, ptr %job, i64 7
  %count = load i64, ptr %count.at
  br label %check
check:
  %i = phi i64 [ 0, %entry ], [ %i.next, %right ]
  %i.left = icmp slt i64 %i, %count
  br i1 %i.left, label %look, label %go
look:
  %i.at = getelementptr ptr, ptr %addresses, i64 %i
  %i.counter = load ptr, ptr %i.at
  %i.is = load float, ptr %i.counter
  %i.row = mul i64 %i, 3
  %i.expected.at = getelementptr float, ptr %table, i64 %i.row
  %i.expected = load float, ptr %i.expected.at
  %i.next = add i64 %i, 1
  %same = fcmp oeq float %i.is, %i.expected
  br i1 %same, label %right, label %wrong
right:
  br label %check
wrong:
  ret i64 %i
go:
  br label %part
part:
  %k = phi i64 [ 0, %go ], [ %k.next, %reset ]
  %k.left = icmp ult i64 %k, %parts.count
  br i1 %k.left, label %reset, label %begin
reset:
  %k.words = mul i64 %k, $part
  %k.part = getelementptr i64, ptr %parts, i64 %k.words
  %k.first.at = getelementptr i64, ptr %k.part, i64 1
  %k.first = load i64, ptr %k.first.at
  store i64 %k.first, ptr %k.part
  %k.next = add i64 %k, 1
  br label %part
begin:
  br label %move
move:
  %j = phi i64 [ 0, %begin ], [ %j.next, %moved ]
  %j.left = icmp slt i64 %j, %count
  br i1 %j.left, label %moved, label %done
moved:
  %j.at = getelementptr ptr, ptr %addresses, i64 %j
  %j.counter = load ptr, ptr %j.at
  %j.row = mul i64 %j, 3
  %j.expected.at = getelementptr float, ptr %table, i64 %j.row
  %j.next.at = getelementptr float, ptr %j.expected.at, i64 1
  %j.grows.at = getelementptr float, ptr %j.expected.at, i64 2
  %new = load float, ptr %j.next.at
  %grows = load float, ptr %j.grows.at
  store float %new, ptr %j.counter
  store float %new, ptr %j.expected.at
  %then = fadd float %new, %grows
  store float %then, ptr %j.next.at
  %j.next = add i64 %j, 1
  br label %move
done:
  ret i64 -1
}

; Step a job in the calling thread, if its counters are right; returns as advance does.
define i64 @alone(ptr %job) {
  %wrong = call i64 @advance(ptr %job)
  %right = icmp slt i64 %wrong, 0
  br i1 %right, label %go, label %end
go:
  call void @work(ptr %job, i64 0)
  br label %end
end:
  ret i64 %wrong
}

; Do a job's chunks: first those of the part whose number is given, then what is left of the others. They are claimed one
; by one, so that whoever comes late has less to do. And each goes through memory of its own from one end on, which
; processors foresee.
; Numbers too small to be normal are flushed to zero meanwhile, since they cost a hundred times as much as others, and an
; average that decays spends for ever among them.
define void @work(ptr %job, i64 %own) {
entry:
  %result = alloca ptr
  %error = alloca ptr
  %kernel = load ptr, ptr %job
  %spans.at = getelementptr i64, ptr %job, i64 1
  %spans = load i64, ptr %spans.at
  %rows.at = getelementptr i64, ptr %job, i64 2
  %rows = load i64, ptr %rows.at
  %parts.at = getelementptr i64, ptr %job, i64 3
  %parts = load ptr, ptr %parts.at
  %count.at = getelementptr i64, ptr %job, i64 4
  %count = load i64, ptr %count.at
  $flush
  br label %next
next:
  %done = phi i64 [ 0, %entry ], [ %done.next, %one ]
  %left = icmp ult i64 %done, %count
  br i1 %left, label %look, label %end
look:
  %turn = add i64 %own, %done
  %which = urem i64 %turn, %count
  %words = mul i64 %which, $part
  %part = getelementptr i64, ptr %parts, i64 %words
  %claimed = load atomic i64, ptr %part monotonic, align 8
  %stop.at = getelementptr i64, ptr %part, i64 2
  %stop = load i64, ptr %stop.at
  %open = icmp slt i64 %claimed, %stop
  br i1 %open, label %do, label %one
do:
  %cursor = ptrtoint ptr %part to i64
  call i32 %kernel(ptr %result, ptr %error, i64 %spans, i64 %rows, i64 %cursor)
  br label %one
one:
  %done.next = add i64 %done, 1
  br label %next
end:
  $restore
  ret void
}

; The time in nanoseconds, of a clock that is never set; needs room for two words.
define i64 @now(ptr %time) {
  call i32 @clock_gettime(i32 $monotonic, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %rest
  ret i64 %now
}

; What a worker's thread runs: sleep in a read from a pipe, take the job if it is still there. To be woken takes a good
; tenth of a millisecond, so a worker whose last two jobs came within $patience nanoseconds of each other waits awake for
; the next, as long: steps that follow each other at once find it there, and a training that computes in between never
; has a core taken by it.
;
; A worker's box has: state (0 idle, 1 offered, 2 at work), the job, the reading and the writing end of its pipe, whether
; it needs no byte in the pipe to find what is offered, and which part of a job is its own.
define void @worker(ptr %box) {
entry:
  %byte = alloca i8
  %time = alloca [2 x i64]
  %job.at = getelementptr i64, ptr %box, i64 1
  %pipe.at = getelementptr i64, ptr %box, i64 2
  %pipe64 = load i64, ptr %pipe.at
  %pipe = trunc i64 %pipe64 to i32
  %found.at = getelementptr i64, ptr %box, i64 4
  %own.at = getelementptr i64, ptr %box, i64 5
  %own = load i64, ptr %own.at
  br label %sleep
sleep:
  %slept.since = phi i64 [ 0, %entry ], [ %slept.since, %woken ], [ %began, %missed ],
    [ %since, %tire ], [ %ended, %work ]
  %got = call i64 @read(i32 %pipe, ptr %byte, i64 1)
  %closed = icmp eq i64 %got, 0
  br i1 %closed, label %end, label %woken
woken:
  %said = icmp eq i64 %got, 1
  br i1 %said, label %take, label %sleep
take:
  store atomic i64 0, ptr %found.at seq_cst, align 8
  %began = call i64 @now(ptr %time)
  %paused = sub i64 %began, %slept.since
  %soon = icmp slt i64 %paused, $patience
  %pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %work, label %missed
missed:
  br i1 %soon, label %stay, label %sleep
stay:
  store atomic i64 1, ptr %found.at seq_cst, align 8
  br label %wait
work:
  %awake = phi i1 [ %soon, %take ], [ true, %try ], [ true, %tire ]
  %job = load ptr, ptr %job.at
  call void @work(ptr %job, i64 %own)
  %found = zext i1 %awake to i64
  store atomic i64 %found, ptr %found.at seq_cst, align 8
  store atomic i64 0, ptr %box seq_cst, align 8
  %ended = call i64 @now(ptr %time)
  br i1 %awake, label %wait, label %sleep
wait:
  %since = phi i64 [ %began, %stay ], [ %ended, %work ], [ %since, %pause ], [ %since, %clock ]
  %looks = phi i64 [ 0, %stay ], [ 0, %work ], [ %looks.next, %pause ], [ 0, %clock ]
  %state = load atomic i64, ptr %box seq_cst, align 8
  %offered = icmp eq i64 %state, 1
  br i1 %offered, label %try, label %pause
try:
  %try.pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %try.mine = extractvalue { i64, i1 } %try.pair, 1
  br i1 %try.mine, label %work, label %pause
pause:
  $pause
  %looks.next = add i64 %looks, 1
  %many = icmp ugt i64 %looks.next, 64
  br i1 %many, label %look, label %wait
look:
  %here = call i64 @now(ptr %time)
  %waited = sub i64 %here, %since
  %long = icmp sgt i64 %waited, $patience
  br i1 %long, label %tire, label %clock
clock:
  call i32 @sched_yield()
  br label %wait
tire:
  store atomic i64 0, ptr %found.at seq_cst, align 8
  %last.pair = cmpxchg ptr %box, i64 1, i64 2 seq_cst seq_cst
  %last.mine = extractvalue { i64, i1 } %last.pair, 1
  br i1 %last.mine, label %work, label %sleep
end:
  ret void
}

; Step a job together with workers, if its counters are right; returns as advance does. Nobody waits for a worker that
; has not begun.
define i64 @shared(ptr %job, ptr %boxes, i64 %workers) {
entry:
  %byte = alloca i8
  store i8 1, ptr %byte
  %wrong = call i64 @advance(ptr %job)
  %right = icmp slt i64 %wrong, 0
  br i1 %right, label %begin, label %end
begin:
  br label %offer
offer:
  %k = phi i64 [ 0, %begin ], [ %k.next, %offered ]
  %k.left = icmp ult i64 %k, %workers
  br i1 %k.left, label %offer.one, label %own
offer.one:
  %k.words = mul i64 %k, $box
  %box = getelementptr i64, ptr %boxes, i64 %k.words
  %job.at = getelementptr i64, ptr %box, i64 1
  store ptr %job, ptr %job.at
  store atomic i64 1, ptr %box seq_cst, align 8
  %found.at = getelementptr i64, ptr %box, i64 4
  %found = atomicrmw xchg ptr %found.at, i64 1 seq_cst
  %asleep = icmp eq i64 %found, 0
  br i1 %asleep, label %wake, label %offered
wake:
  %pipe.at = getelementptr i64, ptr %box, i64 3
  %pipe64 = load i64, ptr %pipe.at
  %pipe = trunc i64 %pipe64 to i32
  %sent = call i64 @write(i32 %pipe, ptr %byte, i64 1)
  br label %offered
offered:
  %k.next = add i64 %k, 1
  br label %offer
own:
  call void @work(ptr %job, i64 0)
  br label %collect
collect:
  %j = phi i64 [ 0, %own ], [ %j.next, %collected ]
  %j.left = icmp ult i64 %j, %workers
  br i1 %j.left, label %withdraw, label %end
withdraw:
  %j.words = mul i64 %j, $box
  %jbox = getelementptr i64, ptr %boxes, i64 %j.words
  %pair = cmpxchg ptr %jbox, i64 1, i64 0 seq_cst seq_cst
  %unbegun = extractvalue { i64, i1 } %pair, 1
  br i1 %unbegun, label %collected, label %wait
wait:
  %spins = phi i64 [ 0, %withdraw ], [ %spins.next, %again ]
  %state = load atomic i64, ptr %jbox seq_cst, align 8
  %busy = icmp eq i64 %state, 2
  br i1 %busy, label %spin, label %collected
spin:
  %spins.next = add i64 %spins, 1
  %long = icmp ugt i64 %spins, 20000
  br i1 %long, label %yield, label %again
yield:
  %yielded = call i32 @sched_yield()
  br label %again
again:
  br label %wait
collected:
  %j.next = add i64 %j, 1
  br label %collect
end:
  ret i64 %wrong
}

; Step a job in the threads of OpenMP, if its counters are right; returns as advance does. It returns when each of them
; has been there.
;
; A team has: OpenMP's function that runs another in so many threads, and that which knows which one it is in; the job;
; and how many threads but the first were there in time, which is before others had begun their part.
define i64 @together(ptr %job, ptr %team, i64 %threads) {
  %wrong = call i64 @advance(ptr %job)
  %right = icmp slt i64 %wrong, 0
  br i1 %right, label %go, label %end
go:
  %job.at = getelementptr i64, ptr %team, i64 2
  store ptr %job, ptr %job.at
  %timely.at = getelementptr i64, ptr %team, i64 3
  store i64 0, ptr %timely.at
  %parallel = load ptr, ptr %team
  %threads32 = trunc i64 %threads to i32
  call void %parallel(ptr @member, ptr %team, i32 %threads32, i32 0)
  br label %end
end:
  ret i64 %wrong
}

; What each thread of a team does. There may be more of them than parts: to ask for fewer than before would end the
; others.
define void @member(ptr %team) {
entry:
  %number.at = getelementptr i64, ptr %team, i64 1
  %number = load ptr, ptr %number.at
  %own32 = call i32 %number()
  %own = zext i32 %own32 to i64
  %job.at = getelementptr i64, ptr %team, i64 2
  %job = load ptr, ptr %job.at
  %count.at = getelementptr i64, ptr %job, i64 4
  %count = load i64, ptr %count.at
  %has.part = icmp ult i64 %own, %count
  br i1 %has.part, label %look, label %end
look:
  %parts.at = getelementptr i64, ptr %job, i64 3
  %parts = load ptr, ptr %parts.at
  %words = mul i64 %own, $part
  %part = getelementptr i64, ptr %parts, i64 %words
  %next = load atomic i64, ptr %part monotonic, align 8
  %first.at = getelementptr i64, ptr %part, i64 1
  %first = load i64, ptr %first.at
  %unbegun = icmp eq i64 %next, %first
  %helper = icmp ne i64 %own, 0
  %timely = and i1 %unbegun, %helper
  %one = zext i1 %timely to i64
  %timely.at = getelementptr i64, ptr %team, i64 3
  %before = atomicrmw add ptr %timely.at, i64 %one monotonic
  call void @work(ptr %job, i64 %own)
  br label %end
end:
  ret void
}
