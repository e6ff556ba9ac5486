from modules.dummy.module import Dummy


class BadLimit(Dummy):
    max_batch = 0
