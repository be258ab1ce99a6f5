def main(req, res):
    return {"ignored": True}
