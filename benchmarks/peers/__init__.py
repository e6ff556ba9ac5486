"""Peers: what people use for this job today, each set up as its own documentation shows.

`catalog.PEERS` lists them; `base` says what the harness asks of one; each has a folder whose `worker.py` is
all that a user of it would write.

What all have in common: two worker processes, the same requests, images, module (`answering`), broker, store
and machine; the module loaded once a process; one boto3 client a process; one thread for torch; results
acknowledged by all replicas; images decoded in full with Pillow. None of them is slowed down by default thread
settings, and none checks an image, catches an error or answers a bad request, as the analyzer does.
None promises more than at-least-once (what each keeps when killed was not tested): around a rebalance a request
may be answered twice, so count distinct request ids.

| peer | how it is set up |
|---|---|
| celery | The design that this project replaces. Prefork pool of two on RabbitMQ, a task an image, given by path, late acknowledgement, a prefetch of 1, one INSERT an image over a lasting connection (Django would open one a task). The images lie in a folder and the tasks in the queue before the workers start. RabbitMQ runs with default settings as a node of the run's own. |
| plain_loop | Two members of a group, each polls one record, answers it, flushes the result and commits synchronously. |
| faust | Two workers with one agent each that takes up to 16 records, fetches and decodes them in threads, and infers them as one batch. |
| quix | Two members of a group with one function applied to each record; checkpoints every 5 s by default. |
| ray | One process reads the topic and feeds two actors with batches of 16, each with its next batch waiting; actors fetch and decode in four threads; results in order, then commit. |

Where documentation leaves a choice, it was made by 3 or 4 runs of 300 images with `dummy` alone, on a machine that
others kept busy (rates of one variant differed by a factor of two to six): Faust's `take` of 16 had the best median
(37 images/s against 30 for four concurrent agents and 21 for one event at a time), not the best of every round;
Celery's prefetch of 1 and of 4 cannot be told apart; threads gained Ray's actors 1 to 23 %. Measure again when quiet.

Celery, Quix Streams and Ray have environments of their own (`environments`), made by `Peer.prepare` in the
user's cache. Without RabbitMQ (`apt-get install rabbitmq-server`) Celery is left out, and the table says so.
"""  # noqa: E501 - a table's row is a line
