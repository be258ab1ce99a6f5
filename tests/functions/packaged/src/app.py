from . import relative
import top


def handler(req, res):
    res.json({"relative": relative.NAME, "top": top.NAME, "module": __name__})
