from modules.dummy.module import Dummy


class NoName(Dummy):
    name = ""
