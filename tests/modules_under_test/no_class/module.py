from modules.dummy.module import Dummy

NOT_MINE = Dummy
