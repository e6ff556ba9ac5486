from modules.dummy.module import Dummy


class OddName(Dummy):
    name = "a/b c"
